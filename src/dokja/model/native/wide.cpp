// One step of a large decoder on CPU: some rows (tokens) through all layers, every product shared by all threads.
//
// For models whose weights are far larger than the caches, a step costs what reading them costs. So they are kept in
// 16, 8 or 4 bits (matrix.h), are read once for all rows, and the few other operations are done on the way, on what
// a thread has just computed. decode.cpp is for small models, where a thread takes its rows through all layers alone.
//
//   legend   D width, H query heads, G key heads, K head width, F ffn width, V vocabulary, R rows

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "matrix.h"
#include "pages.h"
#include "team.h"
#include "vector.h"

namespace {

struct Layer {
    Matrix qkv, out, up, down;
    const float *q_norm, *k_norm, *attn_norm, *ffn_norm, *qkv_bias;  // q_norm, k_norm and qkv_bias may be null
    Pages pages;
    int64_t window, rope;  // window 0 = sees all
    float clamp;
};

struct Model {
    const uint16_t* embed;           // bf16 [V, D]
    const float *norm, *turns;       // turns[position] = cos[K/2], sin[K/2]
    Matrix head;
    const Layer* layer;
    int64_t layers, D, H, G, K, F, pre;
    float eps;
};

struct Rows {
    const int64_t *token, *slot, *position, *score;  // score: row of `scores` to fill, or -1
    int R;
};

inline float norm_scale(const float* x, int64_t n, float eps) {
    vf squares = {};
    for (int64_t c = 0; c < n; c += VW) squares += load(x + c) * load(x + c);
    return 1.f / std::sqrt(sum(squares) / n + eps);
}

constexpr int64_t TILE_ROWS = 8;  // of one sequence, that look at a page together

// What a step needs besides the model; grows, and is kept for the next step.
struct Memory {
    std::vector<float> floats;
    std::vector<uint16_t> halves;
    std::vector<int8_t> bytes;
    std::vector<int32_t> ints;
    std::vector<std::vector<float>> own;  // by thread
    Inputs in, heads, inner;              // of qkv, up and the output matrix; of out; of down
    float *x, *y;                         // [R, D]; [R, max(qkv, D)]
    int64_t y_ld;

    void fit(const Model& m, int R, int threads) {
        int64_t a = m.H * m.K, widest[3] = {m.D, a, m.F}, total = m.D + a + m.F;
        y_ld = std::max(m.layer->qkv.panels(), m.layer->out.panels()) * PANEL + VW;
        floats.resize(R * (m.D + y_ld + total / GROUP));
        halves.resize(R * total);
        bytes.resize(R * total);
        ints.resize(R * total / GROUP);
        x = floats.data();
        y = x + R * m.D;
        float* f = y + R * y_ld;
        uint16_t* h = halves.data();
        int8_t* q = bytes.data();
        int32_t* t = ints.data();
        Inputs* all[3] = {&in, &heads, &inner};
        for (int i = 0; i < 3; i++) {
            int64_t n = R * widest[i];
            *all[i] = {widest[i], h, q, f, t};
            h += n, q += n, f += n / GROUP, t += n / GROUP;
        }
        own.resize(threads);
        for (auto& mine : own)
            mine.resize(std::max(TILE_ROWS * m.H / m.G * (2 * m.K + 2 * VW + 4), 2 * R * PANEL + m.D));
    }
};

// The next inputs from the stream: row r of `x`, normalised where there is a weight.
void enter(const Model& m, const float* x, const float* weight, int64_t kind, const Inputs& in, int64_t r, float* own) {
    if (weight) {
        float scale = norm_scale(x, m.D, m.eps);
        for (int64_t c = 0; c < m.D; c += VW) store(own + c, load(x + c) * scale * load(weight + c));
        x = own;
    }
    for (int64_t g = 0; g < m.D / GROUP; g++) round_group(in, kind, r, g, x + g * GROUP);
}

// x += y, y normalised first after a block of a post-norm model
void add(const Model& m, float* x, const float* y, const float* weight) {
    float scale = m.pre ? 1.f : norm_scale(y, m.D, m.eps);
    for (int64_t c = 0; c < m.D; c += VW) {
        vf v = load(y + c);
        store(x + c, load(x + c) + (m.pre ? v : v * scale * load(weight + c)));
    }
}

void turn(const Model& m, const Layer& l, float* x, const float* norm, int64_t position) {
    const int64_t K = m.K, half = K / 2;
    if (norm) {
        float scale = norm_scale(x, K, m.eps);
        for (int64_t c = 0; c < K; c += VW) store(x + c, load(x + c) * scale * load(norm + c));
    }
    if (!l.rope) return;
    const float* t = m.turns + position * K;
#pragma GCC ivdep
    for (int64_t c = 0; c < half; c++) {
        float a = x[c], b = x[c + half];
        x[c] = a * t[c] - b * t[c + half];
        x[c + half] = b * t[c] + a * t[c + half];
    }
}

// Key head g of a row: bias, norms and rotation of its queries and key; key and value into their page.
void place(const Model& m, const Layer& l, float* qkv, int64_t slot, int64_t position, int64_t g) {
    const int64_t shared = m.H / m.G;
    float *key = qkv + (m.H + g) * m.K, *value = key + m.G * m.K;
    if (l.qkv_bias) {
        auto shift = [&](float* x, int64_t heads) {
            const float* bias = l.qkv_bias + (x - qkv);
            for (int64_t c = 0; c < heads * m.K; c += VW) store(x + c, load(x + c) + load(bias + c));
        };
        shift(qkv + g * shared * m.K, shared), shift(key, 1), shift(value, 1);
    }
    turn(m, l, key, l.k_norm, position);
    keep(l.pages, slot, position, g, key, value);
    for (int64_t h = 0; h < shared; h++) turn(m, l, qkv + (g * shared + h) * m.K, l.q_norm, position);
}

// Key head g of the rows begin..end-1, which belong to one sequence: attention, and the rounded inputs of `out`.
void attend(const Model& m, const Layer& l, const float* y, int64_t y_ld, const Rows& rows, int begin, int end, int64_t g,
            const Inputs& heads, float* own) {
    const int64_t shared = m.H / m.G, n = (end - begin) * shared, K = m.K, width = K + 2 * VW;
    int64_t *from = reinterpret_cast<int64_t*>(own), *until = from + n;
    Tile tile{reinterpret_cast<uint16_t*>(until + n), nullptr, from, until, static_cast<int>(n)};
    tile.state = reinterpret_cast<float*>(tile.q + n * K);
    const float scale = LOG2E / std::sqrt(static_cast<float>(K));
    for (int64_t i = 0; i < n; i++) {
        const int64_t r = begin + i / shared, position = rows.position[r];
        until[i] = position;
        from[i] = l.window && l.window <= position ? position - l.window + 1 : 0;
        const float* q = y + r * y_ld + (g * shared + i % shared) * K;
        for (int64_t c = 0; c < K; c += VW) store(tile.q + i * K + c, load(q + c) * scale);
    }
    const int64_t slot = rows.slot[begin];
    switch (K) {
        case 16: look_all<16>(l.pages, slot, g, tile); break;
        case 32: look_all<32>(l.pages, slot, g, tile); break;
        case 64: look_all<64>(l.pages, slot, g, tile); break;
        case 80: look_all<80>(l.pages, slot, g, tile); break;
        case 96: look_all<96>(l.pages, slot, g, tile); break;
        case 128: look_all<128>(l.pages, slot, g, tile); break;
    }
    float o[GROUP];
    for (int r = begin; r < end; r++)  // heads of a row stand side by side, a group of `out` may span two of them
        for (int64_t c = 0; c < shared * K; c += GROUP) {
            for (int64_t e = 0; e < GROUP; e += VW) {
                const int64_t at = c + e, i = (r - begin) * shared + at / K;
                store(o + e, load(tile.state + i * width + at % K));
            }
            round_group(heads, l.out.kind, r, (g * shared * K + c) / GROUP, o);
        }
}

// Rows that attend together, tile[i]..tile[i+1]-1: neighbours of one sequence.
std::vector<int> tiles(const Rows& rows) {
    std::vector<int> first;
    for (int r = 0; r < rows.R; r++)
        if (r == 0 || rows.slot[r] != rows.slot[r - 1] || r - first.back() == TILE_ROWS) first.push_back(r);
    first.push_back(rows.R);
    return first;
}

void step(Team& team, Memory& mem, const Model& m, const Rows& rows, float* scores, int64_t scores_ld) {
    const int R = rows.R;
    mem.fit(m, R, team.size());
    const std::vector<int> tile = tiles(rows);
    const bool single = static_cast<int>(tile.size()) == R + 1;  // then no row needs to wait for another's key
    std::vector<int> scored;
    for (int r = 0; r < R; r++)
        if (rows.score[r] >= 0) scored.push_back(r);

    team.run([&](int me) {
        float* own = mem.own[me].data();
        auto product = [&](const Matrix& w, const Inputs& in) {
            team.phase(me, w.panels(), [&](int64_t p) { panel_product(w, in, R, p, mem.y + p * PANEL, mem.y_ld); });
        };
        team.phase(me, R, [&](int64_t r) {
            float* x = mem.x + r * m.D;
            for (int64_t c = 0; c < m.D; c += VW) store(x + c, load(m.embed + rows.token[r] * m.D + c));
            enter(m, x, m.pre ? m.layer->attn_norm : nullptr, m.layer->qkv.kind, mem.in, r, own);
        });
        for (int64_t i = 0; i < m.layers; i++) {
            const Layer& l = m.layer[i];
            product(l.qkv, mem.in);
            if (!single)
                team.phase(me, R, [&](int64_t r) {
                    for (int64_t g = 0; g < m.G; g++) place(m, l, mem.y + r * mem.y_ld, rows.slot[r], rows.position[r], g);
                });
            team.phase(me, (tile.size() - 1) * m.G, [&](int64_t k) {
                const int64_t g = k % m.G, t = tile.size() - 2 - k / m.G;  // the longest first
                const int r = tile[t];
                if (single) place(m, l, mem.y + r * mem.y_ld, rows.slot[r], rows.position[r], g);
                attend(m, l, mem.y, mem.y_ld, rows, r, tile[t + 1], g, mem.heads, own);
            });
            product(l.out, mem.heads);
            team.phase(me, R, [&](int64_t r) {
                float* x = mem.x + r * m.D;
                add(m, x, mem.y + r * mem.y_ld, l.attn_norm);
                enter(m, x, m.pre ? l.ffn_norm : nullptr, l.up.kind, mem.in, r, own);
            });
            team.phase(me, m.F / PANEL, [&](int64_t p) {  // a panel of gates with the same panel of ups
                float *gate = own, *up = own + R * PANEL;
                panel_product(l.up, mem.in, R, p, gate, PANEL);
                panel_product(l.up, mem.in, R, p + m.F / PANEL, up, PANEL);
                for (int r = 0; r < R; r++) {
                    for (int c = 0; c < PANEL; c += VW) {
                        vf a = load(gate + r * PANEL + c), b = load(up + r * PANEL + c);
                        if (l.clamp > 0) {
                            vf limit = splat(l.clamp);
                            a = a > limit ? limit : a;
                            b = b > limit ? limit : b < -limit ? -limit : b;
                        }
                        store(gate + r * PANEL + c, silu(a) * b);
                    }
                    round_group(mem.inner, l.down.kind, r, p, gate + r * PANEL);
                }
            });
            product(l.down, mem.inner);
            const bool last = i + 1 == m.layers;
            const float* next = last ? m.norm : m.pre ? m.layer[i + 1].attn_norm : nullptr;
            team.phase(me, R, [&](int64_t r) {
                float* x = mem.x + r * m.D;
                add(m, x, mem.y + r * mem.y_ld, l.ffn_norm);
                if (!last) enter(m, x, next, m.layer[i + 1].qkv.kind, mem.in, r, own);
            });
        }
        team.phase(me, scored.size(), [&](int64_t i) {
            enter(m, mem.x + scored[i] * m.D, m.norm, m.head.kind, mem.in, i, own);
        });
        team.phase(me, scored.empty() ? 0 : m.head.panels(), [&](int64_t p) {
            panel_product(m.head, mem.in, scored.size(), p, own, PANEL);
            for (size_t s = 0; s < scored.size(); s++)
                std::memcpy(scores + rows.score[scored[s]] * scores_ld + p * PANEL, own + s * PANEL, 4 * PANEL);
        });
    });
}

}  // namespace

extern "C" {

void* dokja_team(int64_t threads) { return new Team(static_cast<int>(threads)); }
void* dokja_memory() { return new Memory; }
void dokja_forget(void* memory) { delete static_cast<Memory*>(memory); }

void dokja_wide(void* team, void* memory, const Model* m, const int64_t* token, const int64_t* slot,
                const int64_t* position, const int64_t* score, int64_t R, float* scores, int64_t scores_ld) {
    step(*static_cast<Team*>(team), *static_cast<Memory*>(memory), *m,
         {token, slot, position, score, static_cast<int>(R)}, scores, scores_ld);
}

}  // extern "C"
