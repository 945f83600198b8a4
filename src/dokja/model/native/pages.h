// Attention to keys and values that lie in pages of 32 positions, bf16.
//
//   a page of a layer   [2][G] blocks, keys then values, of PAGE * K
//   a block of keys     [K/2][PAGE][2]   a vector holds two values of sixteen positions
//   a block of values   [PAGE/2][K][2]   a vector holds sixteen values of two positions
//
// Softmax goes page by page (arXiv 2205.14135): a running maximum, a running sum, and outputs rescaled where the maximum
// grows. Pages begin at multiples of 32 positions whoever asks, so what a query gets depends on nothing but its place.
#pragma once

#include <cstdint>
#include <cstring>

#include "matrix.h"
#include "vector.h"

namespace {

constexpr int PAGE = 32;

struct Pages {
    uint16_t* kv;
    const int32_t* table;  // [slots, ld]: the page of position / PAGE
    int64_t ld, G, K;
    uint16_t* block(int64_t slot, int64_t position, bool values, int64_t g) const {
        return kv + ((table[slot * ld + position / PAGE] * 2 + values) * G + g) * PAGE * K;
    }
};

// Query i of a tile sees the positions from[i]..until[i], none where until[i] < from[i].
struct Tile {
    uint16_t* q;      // [n][K], scaled
    float* state;     // [n][K + 2 VW]: sums of values, sums of weights by lane, the maximum
    int64_t *from, *until;
    int n;
};

inline void keep(const Pages& pages, int64_t slot, int64_t position, int64_t g, const float* key, const float* value) {
    const int64_t at = position % PAGE, K = pages.K;
    uint16_t *keys = pages.block(slot, position, false, g), *values = pages.block(slot, position, true, g);
    for (int64_t c = 0; c < K; c += 2)
        for (int i = 0; i < 2; i++) keys[(c / 2 * PAGE + at) * 2 + i] = to_bf16(key[c + i]);
    for (int64_t c = 0; c < K; c++) values[(at / 2 * K + c) * 2 + at % 2] = to_bf16(value[c]);
}

// Queries i..i+Q-1 of a tile look at the page that begins at position `base`.
template <int K, int Q>
void look(const uint16_t* keys, const uint16_t* values, int64_t base, const Tile& tile, int i) {
    constexpr int NV = K / VW, STATE = K + 2 * VW;
    const uint8_t *k = reinterpret_cast<const uint8_t*>(keys), *v = reinterpret_cast<const uint8_t*>(values);
    const uint16_t* q = tile.q + i * K;
    vf s[Q][2] = {};
    for (int c = 0; c < K; c += 2, k += 4 * PAGE)
        for (int h = 0; h < Q; h++)
            for (int e = 0; e < 2; e++) s[h][e] = dot2(s[h][e], k + 64 * e, q + h * K + c);
    uint16_t p[Q][PAGE];
    vf acc[Q][NV];
    for (int h = 0; h < Q; h++) {
        const int64_t from = tile.from[i + h] - base, until = tile.until[i + h] - base;
        if (from > 0 || until < PAGE - 1) {
            vi lane;
            for (int c = 0; c < VW; c++) lane[c] = c;
            const int32_t low = static_cast<int32_t>(from > 0 ? from : 0), high = static_cast<int32_t>(until < PAGE ? until : PAGE);
            for (int e = 0; e < 2; e++) {
                vi place = lane + e * VW;
                s[h][e] = place < low ? splat(-INFINITY) : place > high ? splat(-INFINITY) : s[h][e];
            }
        }
        float* state = tile.state + (i + h) * STATE;
        const float before = state[K + VW], page = highest(s[h][0] > s[h][1] ? s[h][0] : s[h][1]);
        const float top = before > page ? before : page;
        const float shrink = exp2v(splat(before - top))[0];
        vf sum = load(state + K) * shrink;
        for (int e = 0; e < 2; e++) {
            store(p[h] + e * VW, exp2v(s[h][e] - top));
            sum += load(p[h] + e * VW);  // as rounded as the weights are
        }
        store(state + K, sum);
        state[K + VW] = top;
        for (int c = 0; c < NV; c++) acc[h][c] = load(state + c * VW) * shrink;
    }
    for (int j = 0; j < PAGE; j += 2, v += 4 * K)
        for (int c = 0; c < NV; c++)
            for (int h = 0; h < Q; h++) acc[h][c] = dot2(acc[h][c], v + 64 * c, p[h] + j);
    for (int h = 0; h < Q; h++)
        for (int c = 0; c < NV; c++) store(tile.state + (i + h) * STATE + c * VW, acc[h][c]);
}

template <int K>
constexpr int queries() {  // whose sums of a page stay in registers
#ifdef __AVX512F__
    return K <= 32 ? 8 : K <= 64 ? 4 : K <= 80 ? 3 : 2;
#else
    return 1;
#endif
}

// Queries of rows with one slot and one key head, of which `shared` belong to a row and which stand in order of position.
template <int K>
void look_all(const Pages& pages, int64_t slot, int64_t g, const Tile& tile) {
    constexpr int Q = queries<K>(), STATE = K + 2 * VW;
    for (int i = 0; i < tile.n; i++) {
        float* state = tile.state + i * STATE;
        std::memset(state, 0, sizeof(float) * (K + VW));
        state[K + VW] = -1e30f;
    }
    int64_t first = tile.from[0], last = tile.until[tile.n - 1];
    for (int64_t base = first / PAGE * PAGE; base <= last; base += PAGE) {
        const uint16_t *keys = pages.block(slot, base, false, g), *values = pages.block(slot, base, true, g);
        for (int i = 0; i < tile.n; i += Q) {
            const int to = i + Q < tile.n ? i + Q : tile.n;
            if (tile.until[to - 1] < base || tile.from[i] >= base + PAGE) continue;
            if (to - i == Q) {
                look<K, Q>(keys, values, base, tile, i);
            } else {
                for (int one = i; one < to; one++) look<K, 1>(keys, values, base, tile, one);
            }
        }
    }
    for (int i = 0; i < tile.n; i++) {
        float *state = tile.state + i * STATE, inverse = 1.f / sum(load(state + K));
        for (int c = 0; c < K; c += VW) store(state + c, load(state + c) * inverse);
    }
}

}  // namespace
