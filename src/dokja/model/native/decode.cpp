// The whole decoder over cached keys and values on CPU in fp32: one call a step.
//
// Why not torch's kernels: a step of a small model is dozens of small ones, each with its own pass over memory and
// its own wait for all threads, and products of a few dozen rows reach a fraction of what the core can do.
//
// A row is one token of one sequence. The rows of a task pass all layers on one thread, in order: the next tokens of
// several sequences, each with its drafts, or a stretch of one prompt. Every number is summed in the same order whatever
// rows are beside it and whatever pages its sequence has, so results do not depend, not by a bit, on batch mates,
// chunks, drafts or threads.
//
// Keys and values lie in pages of 32 positions (engine/kv.py); a sequence's slot is its row of the table of pages.
//
//   legend   D width, H query heads, G key heads, K head width, F ffn width, V vocabulary, R rows of a block
//   packed   a matrix [N, D] as [N/32, D, 32]: 32 outputs side by side, zeros behind the last (`pack` in native.py)

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vector.h"

namespace {

constexpr int PANEL = 32;   // outputs a panel of a packed matrix
constexpr int BLOCK = 24;   // most rows that pass the layers together
constexpr int PAGE = 32;    // positions of a page; as in engine/pages.py
#ifdef __AVX512F__
constexpr int TILE = 12;    // rows whose sums of a panel stay in registers
#else
constexpr int TILE = 4;
#endif

// Lane i of the result is the sum of a[i]'s lanes.
#define FOLD(n, LO, HI) \
    for (int i = 0; i < n; i++) a[i] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], LO) + \
                                       __builtin_shufflevector(a[2 * i], a[2 * i + 1], HI)
#define EACH(...) __VA_ARGS__
inline vf sums(vf* a) {
    FOLD(8, EACH(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
         EACH(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31));
    FOLD(4, EACH(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
         EACH(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31));
    FOLD(2, EACH(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
         EACH(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31));
    FOLD(1, EACH(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
         EACH(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31));
    return a[0];
}

struct Layer {
    const float *qkv, *out, *up, *down;                     // packed
    const float* qkv_bias;                                  // may be null
    const float *q_norm, *k_norm, *attn_norm, *ffn_norm;    // q_norm and k_norm may be null
    float* kv;                                              // [pages, 2, G, PAGE, K]
    const int32_t* table;                                   // [slots, table_ld]: the page of position / PAGE
    int64_t table_ld, window, rope;                         // window 0 sees everything
};

struct Model {
    const float *embed, *norm, *head, *turns;  // head is packed; turns[position] = cos[K/2], sin[K/2]
    const Layer* layer;
    const float *embed_norm, *hidden_norm, *fc, *mtp_norm;  // the multi-token head (model/mtp.py); fc is packed
    const Layer* mtp;
    int64_t layers, D, H, G, K, F, V, pre, gated;
    float eps;
};

// y[M][32] = x[M][n] . panel[n][32]
template <int M>
void tile(const float* x, int64_t x_ld, const float* panel, int64_t n, float* y, int64_t y_ld) {
    vf acc[M][2] = {};
    for (int64_t d = 0; d < n; d++) {
        vf b0 = load(panel + d * PANEL), b1 = load(panel + d * PANEL + VW);
        for (int r = 0; r < M; r++) {
            float a = x[r * x_ld + d];
            acc[r][0] += a * b0;
            acc[r][1] += a * b1;
        }
    }
    for (int r = 0; r < M; r++)
        for (int c = 0; c < 2; c++) store(y + r * y_ld + c * VW, acc[r][c]);
}

template <int M>
void tiles(int rows, const float* x, int64_t x_ld, const float* panel, int64_t n, float* y, int64_t y_ld) {
    if (rows == M) return tile<M>(x, x_ld, panel, n, y, y_ld);
    if constexpr (M > 1) tiles<M - 1>(rows, x, x_ld, panel, n, y, y_ld);
}

// y[R][N] = x[R][n] . w, `w` packed and y_ld at least N rounded up to whole panels
void product(int R, const float* x, int64_t x_ld, const float* w, int64_t n, int64_t N, float* y, int64_t y_ld) {
    int parts = (R + TILE - 1) / TILE;
    for (int64_t p = 0; p < N; p += PANEL)
        for (int i = 0; i < parts; i++) {
            int first = i * R / parts, rows = (i + 1) * R / parts - first;
            tiles<TILE>(rows, x + first * x_ld, x_ld, w + p * n, n, y + first * y_ld + p, y_ld);
        }
}

// y = x / rms(x) * weight (ADD: y += ...), n a multiple of VW
template <bool ADD>
void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
    vf squares = {};
    for (int64_t c = 0; c < n; c += VW) squares += load(x + c) * load(x + c);
    float scale = 1.f / std::sqrt(sum(squares) / n + eps);
    for (int64_t c = 0; c < n; c += VW) {
        vf v = load(x + c) * scale * load(weight + c);
        store(y + c, ADD ? load(y + c) + v : v);
    }
}

template <int K>
inline void fetch(const float* p) {
    for (int c = 0; c < K; c += VW) __builtin_prefetch(p + c);
}

// One row's q, k, v [H+2G][K]: bias, norms, rotation, k and v into their page, o[H][K] out unless it is null. `p` holds the
// scores of all positions in view, from a multiple of VW on. `next` is the slot that is likely to be asked for next.
template <int K>
void attend(const Model& m, const Layer& l, float* qkv, int64_t slot, int64_t position, int64_t next, float* p, float* o) {
    constexpr int NV = K / VW, LANES = NV >= 4 ? 1 : 4;  // sums kept apart, to hide the latency of an addition
    const float* turn = m.turns + position * K;
    if (l.qkv_bias)
        for (int64_t c = 0; c < (m.H + 2 * m.G) * K; c += VW) store(qkv + c, load(qkv + c) + load(l.qkv_bias + c));
    for (int64_t h = 0; h < m.H + m.G; h++) {
        float* x = qkv + h * K;
        if (m.layer->q_norm) rms_norm<false>(x, h < m.H ? l.q_norm : l.k_norm, K, m.eps, x);
        if (l.rope)
            for (int c = 0; c < K / 2; c++) {
                float a = x[c], b = x[c + K / 2];
                x[c] = a * turn[c] - b * turn[c + K / 2];
                x[c + K / 2] = b * turn[c] + a * turn[c + K / 2];
            }
    }
    const int64_t shared = m.H / m.G, side = m.G * PAGE * K;  // keys of a page, then as many values
    const int64_t oldest = l.window && position >= l.window ? position + 1 - l.window : 0, begin = oldest / VW * VW;
    const int32_t *pages = l.table + slot * l.table_ld, *next_pages = l.table + next * l.table_ld;
    auto at = [&](const int32_t* table, int64_t j, int64_t g) {
        return l.kv + table[j / PAGE] * 2 * side + (g * PAGE + j % PAGE) * K;
    };
    for (int64_t g = 0; g < m.G; g++) {
        float* own = at(pages, position, g);
        std::memcpy(own, qkv + (m.H + g) * K, sizeof(float) * K);
        std::memcpy(own + side, qkv + (m.H + m.G + g) * K, sizeof(float) * K);
        if (!o) continue;
        const bool last = g + 1 == m.G;
        for (int64_t h = g * shared; h < (g + 1) * shared; h++) {
            const bool fetches = h == g * shared && next != slot;  // what the row before has seen lies at hand
            vf q[NV], top = splat(-INFINITY), total = {}, acc[LANES][NV] = {}, lane;
            for (int c = 0; c < VW; c++) lane[c] = c;
            for (int c = 0; c < NV; c++) q[c] = load(qkv + h * K + c * VW) * (LOG2E / std::sqrt(float(K)));
            for (int64_t j = begin; j <= position; j += VW) {
                const float* key = at(pages, j, g);
                if (fetches) {
                    const float* ahead = last ? at(next_pages, j, 0) : key + PAGE * K;
                    for (int i = 0; i < VW; i++) fetch<K>(ahead + i * K);
                }
                vf a[VW];
                for (int i = 0; i < VW; i++, key += K) {
                    a[i] = load(key) * q[0];
                    for (int c = 1; c < NV; c++) a[i] += load(key + c * VW) * q[c];
                }
                vf s = sums(a);
                if (j < oldest) s = lane < splat(oldest - j) ? splat(-INFINITY) : s;
                if (position - j < VW - 1) s = lane > splat(position - j) ? splat(-INFINITY) : s;
                top = s > top ? s : top;
                store(p + j - begin, s);
            }
            const float most = highest(top);
            for (int64_t j = begin; j <= position; j += VW) {
                vf e = exp2v(load(p + j - begin) - most);
                total += e;
                store(p + j - begin, e);
            }
            for (int64_t j = begin; j <= position; j += VW) {  // what is not in view has weight 0
                const float *value = at(pages, j, g) + side, *weight = p + j - begin;
                if (fetches) {
                    const float* ahead = last ? at(next_pages, j, 0) + side : value + PAGE * K;
                    for (int i = 0; i < VW; i++) fetch<K>(ahead + i * K);
                }
                for (int i = 0; i < VW; i += LANES)
                    for (int u = 0; u < LANES; u++)
                        for (int c = 0; c < NV; c++) acc[u][c] += weight[i + u] * load(value + (i + u) * K + c * VW);
            }
            float inverse = 1.f / sum(total);
            for (int c = 0; c < NV; c++) {
                vf t = acc[0][c];
                for (int i = 1; i < LANES; i++) t += acc[i][c];
                store(o + h * K + c * VW, t * inverse);
            }
        }
    }
}

void attend(const Model& m, const Layer& l, float* qkv, int64_t slot, int64_t position, int64_t next, float* p, float* o) {
    switch (m.K) {
        case 16: return attend<16>(m, l, qkv, slot, position, next, p, o);
        case 32: return attend<32>(m, l, qkv, slot, position, next, p, o);
        case 48: return attend<48>(m, l, qkv, slot, position, next, p, o);
        case 64: return attend<64>(m, l, qkv, slot, position, next, p, o);
        case 80: return attend<80>(m, l, qkv, slot, position, next, p, o);
        case 96: return attend<96>(m, l, qkv, slot, position, next, p, o);
        case 128: return attend<128>(m, l, qkv, slot, position, next, p, o);
    }
}

// y[0..F) = silu(y[0..F)) * y[F..2F), or relu(y)^2
void activate(float* y, int64_t F, bool gated) {
    for (int64_t c = 0; c < F; c += VW) {
        vf x = load(y + c);
        vi positive = x > 0.f;
        if (gated) {
            store(y + c, silu(x) * load(y + F + c));
        } else {
            store(y + c, positive ? x * x : vf{});
        }
    }
}

int64_t whole(int64_t n) { return (n + PANEL - 1) / PANEL * PANEL; }

struct Rows {
    const int64_t *token, *slot, *position;
    const int64_t* score;  // row of `scores` and of `hidden` to fill, or -1
    const int64_t* after;  // the token behind, for the multi-token head
    int64_t total;
};

struct Scratch {
    float *x, *n, *o, *y, *p, *pair;  // x[BLOCK][D] is the stream, pair[BLOCK][2D] what enters the multi-token head
    int64_t y_ld;
};

// `longest`: the last position of any row
Scratch scratch(const Model& m, int64_t longest) {
    thread_local std::vector<float> memory;
    int64_t D = m.D, A = m.H * m.K, up = (m.gated ? 2 : 1) * m.F;
    int64_t y_ld = std::max(whole(A + 2 * m.G * m.K), whole(up)) + VW;  // not 4096 bytes: one set of the cache
    size_t size = BLOCK * (D + whole(D) + A + y_ld + 2 * D) + longest + 2 * VW;
    if (memory.size() < size) memory.resize(size);
    float *x = memory.data(), *n = x + BLOCK * D, *o = n + BLOCK * whole(D), *y = o + BLOCK * A, *pair = y + BLOCK * y_ld;
    return {x, n, o, y, pair + BLOCK * 2 * D, pair, y_ld};
}

int64_t last_position(const Rows& rows, int64_t first, int R) {
    return *std::max_element(rows.position + first, rows.position + first + R);
}

void normed(const Model& m, const float* weight, int R, const Scratch& s) {
    for (int r = 0; r < R; r++) rms_norm<false>(s.x + r * m.D, weight, m.D, m.eps, s.n + r * m.D);
}

// Keys and values of R rows into the cache, and what the rows saw into s.o where `look`
void see(const Model& m, const Layer& l, const Rows& rows, int64_t first, int R, const Scratch& s, bool look) {
    int64_t A = m.H * m.K;
    if (m.pre) normed(m, l.attn_norm, R, s);
    product(R, m.pre ? s.n : s.x, m.D, l.qkv, m.D, A + 2 * m.G * m.K, s.y, s.y_ld);
    for (int r = 0; r < R; r++) {  // in order: a row sees the rows of its own sequence before it
        int64_t at = first + r, next = at + 1 < rows.total ? rows.slot[at + 1] : rows.slot[at];
        attend(m, l, s.y + r * s.y_ld, rows.slot[at], rows.position[at], next, s.p, look ? s.o + r * A : nullptr);
    }
}

// R rows of s.x through one layer
void through(const Model& m, const Layer& l, const Rows& rows, int64_t first, int R, const Scratch& s) {
    int64_t D = m.D, A = m.H * m.K;
    auto add = [&](const float* w, const float* in, int64_t in_ld, int64_t width, const float* norm) {
        product(R, in, in_ld, w, width, D, s.n, whole(D));
        for (int r = 0; r < R; r++) {
            float *x = s.x + r * D, *y = s.n + r * whole(D);
            if (!m.pre) rms_norm<true>(y, norm, D, m.eps, x);
            else for (int64_t c = 0; c < D; c += VW) store(x + c, load(x + c) + load(y + c));
        }
    };
    see(m, l, rows, first, R, s, true);
    add(l.out, s.o, A, A, l.attn_norm);
    if (m.pre) normed(m, l.ffn_norm, R, s);
    product(R, m.pre ? s.n : s.x, D, l.up, D, (m.gated ? 2 : 1) * m.F, s.y, s.y_ld);
    for (int r = 0; r < R; r++) activate(s.y + r * s.y_ld, m.F, m.gated);
    add(l.down, s.y, s.y_ld, m.F, l.ffn_norm);
}

// s.x = fc [norm(embed(token)); norm(hidden)], `hidden` [R][D]
void enter(const Model& m, const int64_t* token, const float* hidden, int R, const Scratch& s) {
    int64_t D = m.D;
    for (int r = 0; r < R; r++) {
        rms_norm<false>(m.embed + token[r] * D, m.embed_norm, D, m.eps, s.pair + r * 2 * D);
        rms_norm<false>(hidden + r * D, m.hidden_norm, D, m.eps, s.pair + r * 2 * D + D);
    }
    product(R, s.pair, 2 * D, m.fc, 2 * D, D, s.n, whole(D));
    for (int r = 0; r < R; r++) std::memcpy(s.x + r * D, s.n + r * whole(D), sizeof(float) * D);
}

// Rows first..first+R-1 through all layers; their scores and normed streams where they are asked for. `after` null: no
// multi-token head. Else its layer keeps each row as followed by that token.
void pass(const Model& m, const Rows& rows, int64_t first, int R, float* scores, int64_t scores_ld, float* hidden) {
    Scratch s = scratch(m, last_position(rows, first, R));
    int64_t D = m.D;
    for (int r = 0; r < R; r++) std::memcpy(s.x + r * D, m.embed + rows.token[first + r] * D, sizeof(float) * D);
    for (int64_t i = 0; i < m.layers; i++) through(m, m.layer[i], rows, first, R, s);
    normed(m, m.norm, R, s);
    for (int r = 0; r < R;) {  // neighbours whose scores are neighbours go together
        int64_t at = rows.score[first + r];
        int more = r + 1;
        while (at >= 0 && more < R && rows.score[first + more] == at + more - r) more++;
        if (at >= 0) product(more - r, s.n + r * D, D, m.head, D, m.V, scores + at * scores_ld, scores_ld);
        if (at >= 0 && hidden) std::memcpy(hidden + at * D, s.n + r * D, sizeof(float) * D * (more - r));
        r = more;
    }
    if (!rows.after) return;
    enter(m, rows.after + first, s.n, R, s);
    see(m, *m.mtp, rows, first, R, s, false);  // keys and values are all that later drafts need of these rows
}

// token[R] = the best by the output matrix for s.n [R][D]; scores are looked at a panel at a time and not kept
void best(const Model& m, int R, const Scratch& s, int64_t* token) {
    float y[BLOCK * PANEL], top[BLOCK];
    std::fill(top, top + R, -INFINITY);
    for (int64_t v = 0; v < m.V; v += PANEL) {
        product(R, s.n, m.D, m.head + v * m.D, m.D, PANEL, y, PANEL);
        for (int r = 0; r < R; r++)
            for (int64_t c = 0; c < PANEL && v + c < m.V; c++)
                if (y[r * PANEL + c] > top[r]) top[r] = y[r * PANEL + c], token[r] = v + c;
    }
}

// `depth` drafts of R sequences, each the best after the row's token and the drafts before it
void draft(const Model& m, const Rows& rows, int64_t first, int R, const float* hidden, int64_t depth, int64_t* drafts) {
    Scratch s = scratch(m, last_position(rows, first, R) + depth);
    int64_t token[BLOCK], position[BLOCK], D = m.D;
    for (int r = 0; r < R; r++) {  // the head stands before the token that it is given
        token[r] = rows.token[first + r], position[r] = rows.position[first + r] - 1;
        std::memcpy(s.n + r * D, hidden + rows.slot[first + r] * D, sizeof(float) * D);
    }
    for (int64_t i = 0; i < depth; i++) {
        enter(m, token, s.n, R, s);
        through(m, *m.mtp, {token, rows.slot + first, position, nullptr, nullptr, R}, 0, R, s);
        normed(m, m.mtp_norm, R, s);
        best(m, R, s, token);
        for (int r = 0; r < R; r++) drafts[(first + r) * depth + i] = token[r], position[r]++;
    }
}

// Where the work is cut: whole sequences, about as many rows in each part, and no more than make a block where that
// keeps all threads busy
std::vector<int64_t> parts(const int64_t* slot, int64_t R, int64_t threads) {
    int64_t count = threads * ((R + threads * BLOCK - 1) / (threads * BLOCK));
    std::vector<int64_t> first{0};
    for (int64_t r = 1, n = 1; r < R; r++)
        if (slot[r] != slot[r - 1] && r * count >= n * R) {
            first.push_back(r);
            n = r * count / R + 1;
        }
    first.push_back(R);
    return first;
}

// each(first row, rows) for every block of all parts
template <class Each>
void in_parts(const int64_t* slot, int64_t R, int64_t threads, const Each& each) {
    const std::vector<int64_t> first = parts(slot, R, threads);
    const int64_t count = static_cast<int64_t>(first.size()) - 1;
#pragma omp parallel for schedule(dynamic) if (count > 1)
    for (int64_t t = 0; t < count; t++)
        for (int64_t r = first[t]; r < first[t + 1]; r += BLOCK)
            each(r, static_cast<int>(std::min<int64_t>(BLOCK, first[t + 1] - r)));
}

}  // namespace

extern "C" {

// R rows; those of a sequence stand together, in order. `hidden` and `after` may be null (see `pass`).
void dokja_decode(const Model* m, const int64_t* token, const int64_t* slot, const int64_t* position,
                  const int64_t* score, const int64_t* after, int64_t R, int64_t threads, float* scores,
                  int64_t scores_ld, float* hidden) {
    const Rows rows{token, slot, position, score, after, R};
    in_parts(slot, R, threads, [&](int64_t r, int n) { pass(*m, rows, r, n, scores, scores_ld, hidden); });
}

// One row a sequence: its newest token, and hidden[slot] of the token before it -> drafts[row][depth]
void dokja_draft(const Model* m, const int64_t* token, const int64_t* slot, const int64_t* position, int64_t R,
                 int64_t threads, const float* hidden, int64_t depth, int64_t* drafts) {
    const Rows rows{token, slot, position, nullptr, nullptr, R};
    in_parts(slot, R, threads, [&](int64_t r, int n) { draft(*m, rows, r, n, hidden, depth, drafts); });
}

}  // extern "C"
