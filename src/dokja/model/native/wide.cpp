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
#include "team.h"
#include "vector.h"

namespace {

struct Layer {
    Matrix qkv, out, up, down;
    const float *q_norm, *k_norm, *attn_norm, *ffn_norm;  // q_norm and k_norm may be null
    uint16_t* kv;                                         // bf16 [2, slots, G, capacity, K]
    int64_t capacity, window, rope;                       // window 0 = sees all
    float clamp;
};

struct Model {
    const uint16_t* embed;           // bf16 [V, D]
    const float *norm, *turns;       // turns[position] = cos[K/2], sin[K/2]
    Matrix head;
    const Layer* layer;
    int64_t layers, D, H, G, K, F, slots, pre;
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

    void fit(const Model& m, int R, int threads, int64_t longest) {
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
            mine.resize(std::max<int64_t>(longest + 2 * VW + m.H / m.G * m.K, 2 * R * PANEL + m.D));
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
    for (int64_t c = 0; c < half; c++) {
        float a = x[c], b = x[c + half];
        x[c] = a * t[c] - b * t[c + half];
        x[c + half] = b * t[c] + a * t[c + half];
    }
}

// Row r and key head g: norms, rotation, key and value into the cache, attention, rounded inputs of `out`.
template <int K>
void attend(const Model& m, const Layer& l, float* qkv, int64_t slot, int64_t position, int64_t g, int64_t r,
            const Inputs& heads, float* own) {
    constexpr int NV = K / VW;
    const int64_t shared = m.H / m.G, step = m.slots * m.G * l.capacity * K;
    uint16_t *keys = l.kv + (slot * m.G + g) * l.capacity * K, *values = keys + step;
    float *key = qkv + (m.H + g) * K, *value = qkv + (m.H + m.G + g) * K, *o = own, *p = own + shared * K;
    turn(m, l, key, l.k_norm, position);
    const int64_t place = position % l.capacity;
    for (int c = 0; c < K; c += VW) {
        store(keys + place * K + c, load(key + c));
        store(values + place * K + c, load(value + c));
    }
    const int64_t seen = l.window && l.window < position + 1 ? l.window : position + 1;
    // positions position-seen+1..position lie at one stretch of places, or at two where the ring begins anew
    const int64_t first = (position - seen + 1) % l.capacity, until = std::min(first + seen, l.capacity);
    const int64_t stretch[2][2] = {{first, until}, {0, seen - (until - first)}};
    for (int64_t h = 0; h < shared; h++) {
        float* query = qkv + (g * shared + h) * K;
        turn(m, l, query, l.q_norm, position);
        vf q[NV], acc[2][NV] = {};
        for (int c = 0; c < NV; c++) q[c] = load(query + c * VW) * (LOG2E / std::sqrt(float(K)));
        int64_t n = 0;
        for (auto& s : stretch)
            for (int64_t j = s[0]; j < s[1]; j++) {
                vf a = load(keys + j * K) * q[0];
                for (int c = 1; c < NV; c++) a += load(keys + j * K + c * VW) * q[c];
                p[n++] = sum(a);
            }
        float top = p[0];
        for (int64_t j = 1; j < n; j++) top = std::max(top, p[j]);
        for (int64_t j = n; j < n + VW; j++) p[j] = -INFINITY;
        vf total = {};
        for (int64_t j = 0; j < n; j += VW) {
            vf e = exp2v(load(p + j) - top);
            total += e;
            store(p + j, e);
        }
        n = 0;
        for (auto& s : stretch) {
            int64_t j = s[0];
            for (; j + 2 <= s[1]; j += 2, n += 2)
                for (int i = 0; i < 2; i++)
                    for (int c = 0; c < NV; c++) acc[i][c] += p[n + i] * load(values + (j + i) * K + c * VW);
            for (; j < s[1]; j++, n++)
                for (int c = 0; c < NV; c++) acc[0][c] += p[n] * load(values + j * K + c * VW);
        }
        float inverse = 1.f / sum(total);
        for (int c = 0; c < NV; c++) store(o + h * K + c * VW, (acc[0][c] + acc[1][c]) * inverse);
    }
    for (int64_t i = 0; i < shared * K / GROUP; i++)
        round_group(heads, l.out.kind, r, g * shared * K / GROUP + i, o + i * GROUP);
}

void attend(const Model& m, const Layer& l, float* qkv, int64_t slot, int64_t position, int64_t g, int64_t r,
            const Inputs& heads, float* own) {
    switch (m.K) {
        case 16: return attend<16>(m, l, qkv, slot, position, g, r, heads, own);
        case 32: return attend<32>(m, l, qkv, slot, position, g, r, heads, own);
        case 64: return attend<64>(m, l, qkv, slot, position, g, r, heads, own);
        case 80: return attend<80>(m, l, qkv, slot, position, g, r, heads, own);
        case 96: return attend<96>(m, l, qkv, slot, position, g, r, heads, own);
        case 128: return attend<128>(m, l, qkv, slot, position, g, r, heads, own);
    }
}

// The rows of one sequence stand together, in order; run i is rows run[i]..run[i+1]-1.
std::vector<int> runs(const Rows& rows) {
    std::vector<int> first;
    for (int r = 0; r < rows.R; r++)
        if (r == 0 || rows.slot[r] != rows.slot[r - 1]) first.push_back(r);
    first.push_back(rows.R);
    return first;
}

void step(Team& team, Memory& mem, const Model& m, const Rows& rows, float* scores, int64_t scores_ld) {
    const int R = rows.R, CHUNK = 2;
    int64_t longest = 0;
    for (int r = 0; r < R; r++) longest = std::max(longest, rows.position[r] + 1);
    mem.fit(m, R, team.size(), longest);
    const std::vector<int> run = runs(rows);
    std::vector<int> scored;
    for (int r = 0; r < R; r++)
        if (rows.score[r] >= 0) scored.push_back(r);

    team.run([&](int me) {
        float* own = mem.own[me].data();
        auto product = [&](const Matrix& w, const Inputs& in) {
            team.phase(me, (w.panels() + CHUNK - 1) / CHUNK, [&](int64_t i) {
                for (int64_t p = i * CHUNK; p < std::min((i + 1) * CHUNK, w.panels()); p++)
                    panel_product(w, in, R, p, mem.y + p * PANEL, mem.y_ld);
            });
        };
        team.phase(me, R, [&](int64_t r) {
            float* x = mem.x + r * m.D;
            for (int64_t c = 0; c < m.D; c += VW) store(x + c, load(m.embed + rows.token[r] * m.D + c));
            enter(m, x, m.pre ? m.layer->attn_norm : nullptr, m.layer->qkv.kind, mem.in, r, own);
        });
        for (int64_t i = 0; i < m.layers; i++) {
            const Layer& l = m.layer[i];
            product(l.qkv, mem.in);
            team.phase(me, (run.size() - 1) * m.G, [&](int64_t k) {
                int64_t g = k % m.G;
                for (int r = run[k / m.G]; r < run[k / m.G + 1]; r++)
                    attend(m, l, mem.y + r * mem.y_ld, rows.slot[r], rows.position[r], g, r, mem.heads, own);
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
        team.phase(me, scored.empty() ? 0 : (m.head.panels() + 3) / 4, [&](int64_t i) {
            for (int64_t p = i * 4; p < std::min((i + 1) * 4, m.head.panels()); p++) {
                panel_product(m.head, mem.in, scored.size(), p, own, PANEL);
                for (size_t s = 0; s < scored.size(); s++)
                    std::memcpy(scores + rows.score[scored[s]] * scores_ld + p * PANEL, own + s * PANEL, 4 * PANEL);
            }
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

// w[N, n] fp32 -> packed INT8 or INT4 or BF16 as matrix.h says; N is rounded up to whole panels, zeros behind.
void dokja_pack(const float* w, int64_t N, int64_t n, int64_t kind, uint8_t* data, float* scale) {
    Matrix m{data, scale, n, N, kind};
#pragma omp parallel for schedule(dynamic)
    for (int64_t p = 0; p < m.panels(); p++) {
        uint8_t* to = data + p * m.panel_bytes();
        for (int64_t lane = 0; lane < PANEL; lane++) {
            int64_t o = p * PANEL + lane;
            auto at = [&](int64_t d) { return o < N ? w[o * n + d] : 0.f; };
            if (kind == BF16) {
                for (int64_t d = 0; d < n; d++)
                    reinterpret_cast<uint16_t*>(to)[(d / 2 * PANEL + lane) * 2 + d % 2] = to_bf16(at(d));
            } else if (kind == INT8) {
                float top = 0;
                for (int64_t d = 0; d < n; d++) top = std::max(top, std::fabs(at(d)));
                scale[p * PANEL + lane] = top / 127.f;
                for (int64_t d = 0; d < n; d++) {
                    float v = top > 0 ? std::nearbyint(at(d) * (127.f / top)) : 0.f;
                    to[(d / 4 * PANEL + lane) * 4 + d % 4] = static_cast<uint8_t>(static_cast<int>(v) + 128);
                }
            } else {
                for (int64_t g = 0; g < n / GROUP; g++) {
                    uint8_t* block = to + g * BLOCK4;
                    float far = 0;  // the value furthest from zero becomes -8, so that all sixteen steps are used
                    for (int64_t d = g * GROUP; d < (g + 1) * GROUP; d++)
                        if (std::fabs(at(d)) > std::fabs(far)) far = at(d);
                    float s = far / -8.f;
                    uint16_t half = _cvtss_sh(s, 0);
                    std::memcpy(block + 4 * 128 + lane * 2, &half, 2);
                    float inverse = s != 0 ? 1.f / _cvtsh_ss(half) : 0.f;
                    for (int64_t k = 0; k < GROUP; k++) {
                        int v = static_cast<int>(std::nearbyint(at(g * GROUP + k) * inverse)) + 8;
                        v = std::min(15, std::max(0, v));
                        uint8_t& byte = block[(k / 8 * PANEL + lane) * 4 + k % 4];
                        byte = k % 8 < 4 ? (byte & 0xf0) | v : (byte & 0x0f) | (v << 4);
                    }
                }
            }
        }
    }
}

}  // extern "C"
