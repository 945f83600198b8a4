// The whole decoder over cached keys and values on CPU in fp32, and the drawing of tokens: one call each a step.
//
// Why not torch's kernels: a step of a small model is dozens of small ones, each with its own pass over memory and
// its own wait for all threads, and products of a few dozen rows reach a fraction of what the core can do.
//
// A row is one token of one sequence. The rows of a task pass all layers on one thread, in order: the next tokens of
// several sequences, each with its drafts, or a stretch of one prompt. Every number is summed in the same order whatever
// rows are beside it and wherever a ring has its keys, so results do not depend, not by a bit, on batch mates, chunks,
// drafts or threads.
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
constexpr int PART = 128;   // tokens whose probabilities are summed before a draw looks at each
constexpr int BLOCK = 24;   // most rows that pass the layers together
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
    const float *q_norm, *k_norm, *attn_norm, *ffn_norm;    // q_norm and k_norm may be null
    float* kv;                                              // [2, slots, G, capacity, K]
    int64_t capacity, window, rope;                         // window 0 sees everything
};

struct Model {
    const float *embed, *norm, *head, *turns;  // head is packed; turns[position] = cos[K/2], sin[K/2]
    const Layer* layer;
    const float *embed_norm, *hidden_norm, *fc, *mtp_norm;  // the multi-token head (model/mtp.py); fc is packed
    const Layer* mtp;
    int64_t layers, D, H, G, K, F, V, slots, pre, gated;
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

// One row's q, k, v [H+2G][K]: norms, rotation, k and v into the cache, o[H][K] out unless it is null. `p` holds
// capacity + VW floats. Keys are gone through from the oldest in view, wherever the ring has it.
template <int K>
void attend(const Model& m, const Layer& l, float* qkv, int64_t slot, int64_t position, float* p, float* o) {
    constexpr int NV = K / VW, LANES = NV >= 4 ? 1 : 4;  // sums kept apart, to hide the latency of an addition
    const float* turn = m.turns + position * K;
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
    int64_t seen = l.window && position >= l.window ? l.window : position + 1, shared = m.H / m.G;
    int64_t place = position % l.capacity, oldest = (position + 1 - seen) % l.capacity, wrap = l.capacity - oldest;
    for (int64_t g = 0; g < m.G; g++) {
        float* keys = l.kv + (slot * m.G + g) * l.capacity * K;
        float* values = keys + m.slots * m.G * l.capacity * K;
        const float *next_keys = keys + l.capacity * K, *next_values = values + l.capacity * K;  // likely what comes next
        std::memcpy(keys + place * K, qkv + (m.H + g) * K, sizeof(float) * K);
        std::memcpy(values + place * K, qkv + (m.H + m.G + g) * K, sizeof(float) * K);
        if (!o) continue;
        auto at = [&](int64_t j) { return (j < wrap ? j + oldest : j - wrap) * K; };
        for (int64_t h = g * shared; h < (g + 1) * shared; h++) {
            vf q[NV], top = splat(-INFINITY), total = {}, acc[LANES][NV] = {}, lane;
            for (int c = 0; c < VW; c++) lane[c] = c;
            for (int c = 0; c < NV; c++) q[c] = load(qkv + h * K + c * VW) * (LOG2E / std::sqrt(float(K)));
            for (int64_t j = 0; j < seen; j += VW) {
                vf a[VW];
                for (int i = 0; i < VW; i++) {
                    const float* key = keys + at(j + i < seen ? j + i : seen - 1);
                    if (h == g * shared) fetch<K>(next_keys + (j + i) * K);
                    a[i] = load(key) * q[0];
                    for (int c = 1; c < NV; c++) a[i] += load(key + c * VW) * q[c];
                }
                vf s = lane < splat(seen - j) ? sums(a) : splat(-INFINITY);
                top = s > top ? s : top;
                store(p + j, s);
            }
            float highest = top[0];
            for (int c = 1; c < VW; c++) highest = top[c] > highest ? top[c] : highest;
            for (int64_t j = 0; j < seen; j += VW) {
                vf e = exp2v(load(p + j) - highest);
                total += e;
                store(p + j, e);
            }
            int64_t j = 0;
            for (; j + LANES <= seen; j += LANES)
                for (int i = 0; i < LANES; i++) {
                    if (h == g * shared) fetch<K>(next_values + (j + i) * K);
                    for (int c = 0; c < NV; c++) acc[i][c] += p[j + i] * load(values + at(j + i) + c * VW);
                }
            for (; j < seen; j++)
                for (int c = 0; c < NV; c++) acc[0][c] += p[j] * load(values + at(j) + c * VW);
            float inverse = 1.f / sum(total);
            for (int c = 0; c < NV; c++) {
                vf t = acc[0][c];
                for (int i = 1; i < LANES; i++) t += acc[i][c];
                store(o + h * K + c * VW, t * inverse);
            }
        }
    }
}

void attend(const Model& m, const Layer& l, float* qkv, int64_t slot, int64_t position, float* p, float* o) {
    switch (m.K) {
        case 16: return attend<16>(m, l, qkv, slot, position, p, o);
        case 32: return attend<32>(m, l, qkv, slot, position, p, o);
        case 48: return attend<48>(m, l, qkv, slot, position, p, o);
        case 64: return attend<64>(m, l, qkv, slot, position, p, o);
        case 80: return attend<80>(m, l, qkv, slot, position, p, o);
        case 96: return attend<96>(m, l, qkv, slot, position, p, o);
        case 128: return attend<128>(m, l, qkv, slot, position, p, o);
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
};

struct Scratch {
    float *x, *n, *o, *y, *p, *pair;  // x[BLOCK][D] is the stream, pair[BLOCK][2D] what enters the multi-token head
    int64_t y_ld;
};

Scratch scratch(const Model& m) {
    thread_local std::vector<float> memory;
    int64_t D = m.D, A = m.H * m.K, up = (m.gated ? 2 : 1) * m.F, longest = m.mtp ? m.mtp->capacity : 0;
    int64_t y_ld = std::max(whole(A + 2 * m.G * m.K), whole(up)) + VW;  // not 4096 bytes: one set of the cache
    for (int64_t i = 0; i < m.layers; i++) longest = std::max(longest, m.layer[i].capacity);
    memory.resize(BLOCK * (D + whole(D) + A + y_ld + 2 * D) + longest + VW);
    float *x = memory.data(), *n = x + BLOCK * D, *o = n + BLOCK * whole(D), *y = o + BLOCK * A, *pair = y + BLOCK * y_ld;
    return {x, n, o, y, pair + BLOCK * 2 * D, pair, y_ld};
}

void normed(const Model& m, const float* weight, int R, const Scratch& s) {
    for (int r = 0; r < R; r++) rms_norm<false>(s.x + r * m.D, weight, m.D, m.eps, s.n + r * m.D);
}

// Keys and values of R rows into the cache, and what the rows saw into s.o where `look`
void see(const Model& m, const Layer& l, const Rows& rows, int64_t first, int R, const Scratch& s, bool look) {
    int64_t A = m.H * m.K;
    if (m.pre) normed(m, l.attn_norm, R, s);
    product(R, m.pre ? s.n : s.x, m.D, l.qkv, m.D, A + 2 * m.G * m.K, s.y, s.y_ld);
    for (int r = 0; r < R; r++)  // in order: a row sees the rows of its own sequence before it
        attend(m, l, s.y + r * s.y_ld, rows.slot[first + r], rows.position[first + r], s.p, look ? s.o + r * A : nullptr);
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

// Rows first..first+R-1 through all layers; their scores and normed streams where they are asked for. `hidden` null: no
// multi-token head. Else its layer keeps each row as followed by the token of the next; where that is not so, the row is
// written anew before it is seen.
void pass(const Model& m, const Rows& rows, int64_t first, int R, int64_t total, float* scores, int64_t scores_ld,
          float* hidden) {
    Scratch s = scratch(m);
    int64_t D = m.D, next[BLOCK];
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
    if (!hidden) return;
    for (int r = 0; r < R; r++) next[r] = first + r + 1 < total ? rows.token[first + r + 1] : 0;
    enter(m, next, s.n, R, s);
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
    Scratch s = scratch(m);
    int64_t token[BLOCK], slot[BLOCK], position[BLOCK];
    for (int r = 0; r < R; r++)  // the head stands before the token that it is given
        token[r] = rows.token[first + r], slot[r] = rows.slot[first + r], position[r] = rows.position[first + r] - 1;
    for (int64_t i = 0; i < depth; i++) {
        enter(m, token, i ? s.n : hidden + first * m.D, R, s);
        through(m, *m.mtp, {token, slot, position, nullptr}, 0, R, s);
        normed(m, m.mtp_norm, R, s);
        best(m, R, s, token);
        for (int r = 0; r < R; r++) drafts[(first + r) * depth + i] = token[r], position[r]++;
    }
}

inline uint64_t mixed(uint64_t z) {  // splitmix64, as in engine/sampler.py
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// e[V] = 2^((s - top) * scale), zeros behind -> their sum; `part` has the sum of every PART of them
double exponentials(const float* s, int64_t V, float scale, float* e, double* part, float& top) {
    vf best = splat(-INFINITY);
    int64_t full = V / VW * VW;
    for (int64_t c = 0; c < full; c += VW) best = load(s + c) > best ? load(s + c) : best;
    top = -INFINITY;
    for (int c = 0; c < VW; c++) top = best[c] > top ? best[c] : top;
    for (int64_t c = full; c < V; c++) top = s[c] > top ? s[c] : top;
    double total = 0;
    for (int64_t at = 0; at < V; at += PART) {
        vf together = {};
        for (int64_t c = at; c < V && c < at + PART; c += VW) {
            vf v;
            if (c < full) v = load(s + c);
            else for (int i = 0; i < VW; i++) v[i] = c + i < V ? s[c + i] : -INFINITY;
            v = exp2v((v - top) * scale);
            store(e + c, v);
            together += v;
        }
        total += part[at / PART] = sum(together);
    }
    return total;
}

}  // namespace

extern "C" {

// Task t is the rows first[t]..first[t+1]-1. `hidden` may be null (see `pass`).
void dokja_decode(const Model* m, const int64_t* token, const int64_t* slot, const int64_t* position,
                  const int64_t* score, const int64_t* first, int64_t tasks, float* scores, int64_t scores_ld,
                  float* hidden) {
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
    for (int64_t t = 0; t < tasks; t++)
        for (int64_t r = first[t]; r < first[t + 1]; r += BLOCK)
            pass(*m, {token, slot, position, score}, r, static_cast<int>(std::min<int64_t>(BLOCK, first[t + 1] - r)),
                 first[tasks], scores, scores_ld, hidden);
}

// One row a sequence: its newest token, and hidden[row] of the token before it -> drafts[row][depth]
void dokja_draft(const Model* m, const int64_t* token, const int64_t* slot, const int64_t* position, const int64_t* first,
                 int64_t tasks, const float* hidden, int64_t depth, int64_t* drafts) {
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
    for (int64_t t = 0; t < tasks; t++)
        for (int64_t r = first[t]; r < first[t + 1]; r += BLOCK)
            draft(*m, {token, slot, position, nullptr}, r,
                  static_cast<int>(std::min<int64_t>(BLOCK, first[t + 1] - r)), hidden, depth, drafts);
}

// Draws from softmax(filtered / temperature) by inverting the distribution function at hash(key, position); the best
// token where temperature is 0; `forced` (may be null) where that is not negative. logprob is of `scores`, which
// `filtered` may be. Every temperature and key is for `each` rows.
void dokja_draw(const float* scores, const float* filtered, int64_t B, int64_t V, int64_t ld, int64_t each,
                const float* temperature, const int64_t* key, const int64_t* position, const int64_t* forced,
                int64_t* token, float* logprob) {
#pragma omp parallel for schedule(static) if (B > 8)
    for (int64_t b = 0; b < B; b++) {
        thread_local std::vector<float> e;
        thread_local std::vector<double> part;
        e.resize(V + VW);
        part.resize(V / PART + 1);
        const float *raw = scores + b * ld, *s = filtered + b * ld;
        float top;
        float heat = temperature[b / each];
        double total = 0;
        int64_t found = forced ? forced[b] : -1;
        if (found < 0 && heat > 0) {
            total = exponentials(s, V, LOG2E / heat, e.data(), part.data(), top);
            uint64_t bits = mixed(static_cast<uint64_t>(key[b / each]) + static_cast<uint64_t>(position[b]) * 0x9E3779B97F4A7C15u);
            double target = (bits >> 11) * 0x1p-53 * total, before = 0;
            int64_t at = 0;  // the first token whose sum goes beyond the target
            while (at + PART < V && before + part[at / PART] <= target) before += part[at / PART], at += PART;
            for (int64_t i = at; i < V && i < at + PART && before <= target; i++)
                if (e[i] > 0) before += e[i], found = i;
            for (int64_t i = V; found < 0 && i-- > 0;) found = e[i] > 0 ? i : found;
            found = found < 0 ? 0 : found;  // scores that are no numbers: their log-probability will say so
        } else if (found < 0) {
            found = 0;
            for (int64_t c = 1; c < V; c++) found = s[c] > s[found] ? c : found;
        }
        if (!(total > 0 && s == raw && heat == 1.f))
            total = exponentials(raw, V, LOG2E, e.data(), part.data(), top);
        token[b] = found;
        logprob[b] = static_cast<float>(raw[found] - top - std::log(total));
    }
}

}  // extern "C"
