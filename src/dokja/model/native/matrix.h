// Products of a few rows with a large matrix whose weights have 16, 8 or 4 bits.
//
//   kind  a panel (32 outputs) of a matrix [N, n]                          weight
//   BF16  [n/2][32][2] bf16                                                as it is
//   INT8  [n/4][32][4] uint8, scale[N] apart                               (u - 128) * scale of its output
//   INT4  [n/32] blocks: [4][32][4] bytes, then [32] fp16 scales           (nibble - 8) * scale of its 32 inputs
//         (a byte of step i holds input 8i+k in its low and 8i+4+k in its high nibble)
//
// Inputs are rounded too: to bf16, or to int8 with a scale for every 32 of a row (`Inputs`). Sums of a group are
// exact integers; groups are added in fp32, always in the same order, so a row's result does not depend on the
// rows beside it.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "vector.h"

namespace {

enum Kind : int64_t { BF16 = 0, INT8 = 1, INT4 = 2 };
constexpr int PANEL = 32, GROUP = 32, AHEAD = 4096;  // bytes fetched ahead of their use
constexpr int64_t BLOCK4 = 4 * 128 + 64;             // bytes of an INT4 block

struct Matrix {
    const uint8_t* data;
    const float* scale;
    int64_t n, N, kind;
    int64_t panels() const { return (N + PANEL - 1) / PANEL; }
    int64_t panel_bytes() const { return kind == BF16 ? n * 64 : kind == INT8 ? n * 32 : n / GROUP * BLOCK4; }
};

// R rows of n values, rounded for a matrix of some kind.
struct Inputs {
    int64_t n = 0;
    uint16_t* bf16 = nullptr;  // [R][n]
    int8_t* q = nullptr;       // [R][n]
    float* scale = nullptr;    // [R][n/32]
    int32_t* total = nullptr;  // [R][n/32], sum of the group's q
};

inline uint16_t to_bf16(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    return static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// Rounds 32 values, group g of row r.
inline void round_group(const Inputs& in, int64_t kind, int64_t r, int64_t g, const float* x) {
    int64_t at = r * in.n + g * GROUP;
    if (kind == BF16) {
        for (int i = 0; i < GROUP; i += VW) store(in.bf16 + at + i, load(x + i));
        return;
    }
    vf a = load(x), b = load(x + VW), na = a < 0.f ? -a : a, nb = b < 0.f ? -b : b;
    float top = highest(na > nb ? na : nb), inverse = top > 0 ? 127.f / top : 0.f;
    int32_t total = 0;
    for (int i = 0; i < GROUP; i++) {
        int v = static_cast<int>(std::nearbyint(x[i] * inverse));
        in.q[at + i] = static_cast<int8_t>(v);
        total += v;
    }
    in.scale[r * (in.n / GROUP) + g] = top / 127.f;
    in.total[r * (in.n / GROUP) + g] = total;
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
typedef __m512i Bytes;
constexpr int ZERO8 = 128;
inline Bytes bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Bytes low(Bytes b) { return _mm512_and_si512(b, _mm512_set1_epi8(15)); }
inline Bytes high(Bytes b) { return low(_mm512_srli_epi16(b, 4)); }
inline Bytes four(const int8_t* q) {
    int32_t x;
    std::memcpy(&x, q, 4);
    return _mm512_set1_epi32(x);
}
inline vi dot4(vi s, Bytes u, Bytes q) { return (vi)_mm512_dpbusd_epi32((__m512i)s, u, q); }  // nibbles
inline vi dot8(vi s, Bytes u, Bytes q) { return (vi)_mm512_dpbusd_epi32((__m512i)s, u, q); }
inline vf scales(const uint8_t* p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
#else
struct Bytes { __m256i a, b; };
constexpr int ZERO8 = 0;  // dot8 takes the 128 away itself
inline Bytes bytes(const uint8_t* p) {
    return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
inline __m256i low(__m256i b) { return _mm256_and_si256(b, _mm256_set1_epi8(15)); }
inline Bytes low(Bytes b) { return {low(b.a), low(b.b)}; }
inline Bytes high(Bytes b) { return {low(_mm256_srli_epi16(b.a, 4)), low(_mm256_srli_epi16(b.b, 4))}; }
inline Bytes four(const int8_t* q) {
    int32_t x;
    std::memcpy(&x, q, 4);
    return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
inline __m256i pairs(__m256i u, __m256i q) {  // four products a lane; u * q * 2 must stay below 2^15
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, q), _mm256_set1_epi16(1));
}
inline vi join(__m256i a, __m256i b) {
    vi out;
    std::memcpy(&out, &a, 32);
    std::memcpy(reinterpret_cast<char*>(&out) + 32, &b, 32);
    return out;
}
inline vi dot4(vi s, Bytes u, Bytes q) { return s + join(pairs(u.a, q.a), pairs(u.b, q.b)); }
inline __m256i signed_pairs(__m256i u, __m256i q) {
    __m256i w = _mm256_xor_si256(u, _mm256_set1_epi8(-128));  // u - 128; -128 itself never occurs
    return pairs(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
}
inline vi dot8(vi s, Bytes u, Bytes q) { return s + join(signed_pairs(u.a, q.a), signed_pairs(u.b, q.b)); }
inline vf scales(const uint8_t* p) {
    __m256 a = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
    __m256 b = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 16)));
    vf out;
    std::memcpy(&out, &a, 32);
    std::memcpy(reinterpret_cast<char*>(&out) + 32, &b, 32);
    return out;
}
#endif

#ifdef __AVX512BF16__
inline vf dot2(vf s, const uint8_t* w, const uint16_t* x) {
    int32_t two;
    std::memcpy(&two, x, 4);
    return (vf)_mm512_dpbf16_ps((__m512)s, (__m512bh)_mm512_loadu_si512(w), (__m512bh)_mm512_set1_epi32(two));
}
#else
inline vf dot2(vf s, const uint8_t* w, const uint16_t* x) {
    vi pair = *reinterpret_cast<const vi*>(w), even = pair << 16, odd = pair & int32_t(0xffff0000);
    uint32_t a = uint32_t(x[0]) << 16, b = uint32_t(x[1]) << 16;
    float fa, fb;
    std::memcpy(&fa, &a, 4);
    std::memcpy(&fb, &b, 4);
    return s + reinterpret_cast<vf&>(even) * fa + reinterpret_cast<vf&>(odd) * fb;
}
#endif

inline void fetch(const uint8_t* p, int lines) {
    for (int i = 0; i < lines; i++) __builtin_prefetch(p + AHEAD + 64 * i);
}

// y[M][32] for one panel; rows r..r+M-1 of `in`.
template <int M>
void tile(const Matrix& m, const Inputs& in, int64_t r, int64_t panel, float* y, int64_t y_ld) {
    const uint8_t* w = m.data + panel * m.panel_bytes();
    vf acc[M][2] = {};
    if (m.kind == BF16) {
        const uint16_t* x = in.bf16 + r * in.n;
        for (int64_t d = 0; d < m.n; d += 2, w += 128) {
            fetch(w, 2);
            for (int i = 0; i < M; i++)
                for (int c = 0; c < 2; c++) acc[i][c] = dot2(acc[i][c], w + 64 * c, x + i * in.n + d);
        }
    } else {
        int64_t groups = m.n / GROUP;
        const int8_t* q = in.q + r * in.n;
        const float* scale = in.scale + r * groups;
        const int32_t* total = in.total + r * groups;
        for (int64_t g = 0; g < groups; g++, q += GROUP) {
            vi s[M][2];
            int zero = m.kind == INT8 ? ZERO8 : 8;
            for (int i = 0; i < M; i++) s[i][0] = s[i][1] = vi{} - zero * total[i * groups + g];
            if (m.kind == INT8) {
                for (int k = 0; k < GROUP; k += 4, w += 128) {
                    fetch(w, 2);
                    Bytes a = bytes(w), b = bytes(w + 64);
                    for (int i = 0; i < M; i++) {
                        Bytes x = four(q + i * in.n + k);
                        s[i][0] = dot8(s[i][0], a, x);
                        s[i][1] = dot8(s[i][1], b, x);
                    }
                }
                for (int i = 0; i < M; i++)
                    for (int c = 0; c < 2; c++) acc[i][c] += __builtin_convertvector(s[i][c], vf) * scale[i * groups + g];
            } else {
                fetch(w, 9);
                for (int k = 0; k < GROUP; k += 8, w += 128) {
                    Bytes a = bytes(w), b = bytes(w + 64);
                    for (int i = 0; i < M; i++) {
                        Bytes x = four(q + i * in.n + k), y = four(q + i * in.n + k + 4);
                        s[i][0] = dot4(dot4(s[i][0], low(a), x), high(a), y);
                        s[i][1] = dot4(dot4(s[i][1], low(b), x), high(b), y);
                    }
                }
                vf left = scales(w), right = scales(w + 32);
                w += 64;
                for (int i = 0; i < M; i++) {
                    float f = scale[i * groups + g];
                    acc[i][0] += __builtin_convertvector(s[i][0], vf) * (left * f);
                    acc[i][1] += __builtin_convertvector(s[i][1], vf) * (right * f);
                }
            }
        }
        if (m.kind == INT8)
            for (int i = 0; i < M; i++)
                for (int c = 0; c < 2; c++) acc[i][c] *= load(m.scale + panel * PANEL + c * VW);
    }
    for (int i = 0; i < M; i++)
        for (int c = 0; c < 2; c++) store(y + i * y_ld + c * VW, acc[i][c]);
}

#ifdef __AVX512F__
constexpr int TILE = 8;  // rows that read a panel together; of many rows in few bits 6, whose sums fit the registers
#else
constexpr int TILE = 2;
#endif

template <int M>
void tiles(int rows, const Matrix& m, const Inputs& in, int64_t r, int64_t panel, float* y, int64_t y_ld) {
    if (rows == M) return tile<M>(m, in, r, panel, y, y_ld);
    if constexpr (M > 1) tiles<M - 1>(rows, m, in, r, panel, y, y_ld);
}

// y[R][32] = outputs of one panel for rows 0..R-1
inline void panel_product(const Matrix& m, const Inputs& in, int R, int64_t panel, float* y, int64_t y_ld) {
    const int most = R > TILE && m.kind != BF16 && TILE > 6 ? 6 : TILE, parts = (R + most - 1) / most;
    for (int i = 0; i < parts; i++) {
        int first = i * R / parts;
        tiles<TILE>((i + 1) * R / parts - first, m, in, first, panel, y + first * y_ld, y_ld);
    }
}

}  // namespace
