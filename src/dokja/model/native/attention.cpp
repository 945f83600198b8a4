// Causal attention over packed documents on CPU, forward and backward, fp32 arithmetic on fp32 or bf16 tensors.
//
// Why not torch's kernel: it takes a dense mask, so a row of 256 tokens that packs five documents pays for all
// 256 x 256 pairs. Here every query touches the keys of its own document and window only.
//
//   legend   B rows, L tokens a row, H query heads, G key heads, K head width; a "block" is QB queries
//   layout   q [B,L,H,K]  k, v [B,L,G,K]  o [B,L,H,K]; a token stride (in values) per tensor, K contiguous
//   start    [B,L] int32: index in the row of the first token of the query's document
//
// Work is split over (row, key head); every task writes its own part of the outputs, so results do not depend
// on the number of threads. Plain C++ with vector extensions: AVX-512, AVX2 and NEON come from -march=native.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "vector.h"

namespace {

constexpr int QB = 16;   // queries a block

// out[QB][n] = a[QB][K] . bT[K][ld], for n keys (a multiple of VW)
template <int K>
void scores(const float* a, const float* bT, int64_t ld, int n, float* out, int64_t out_ld) {
    for (int j = 0; j < n; j += 2 * VW) {
        bool two = j + VW < n;
        for (int i = 0; i < QB; i += 4) {
            vf acc[4][2] = {};
            for (int d = 0; d < K; d++) {
                vf b0 = load(bT + d * ld + j);
                vf b1 = two ? load(bT + d * ld + j + VW) : b0;
                for (int r = 0; r < 4; r++) {
                    float x = a[(i + r) * K + d];
                    acc[r][0] += x * b0;
                    acc[r][1] += x * b1;
                }
            }
            for (int r = 0; r < 4; r++) {
                store(out + (i + r) * out_ld + j, acc[r][0]);
                if (two) store(out + (i + r) * out_ld + j + VW, acc[r][1]);
            }
        }
    }
}

// out[i][:] (+)= sum_j w[i][j] * b[j][:], i < QB, j < n
template <int K, bool ADD>
void mix(const float* w, int64_t w_ld, const float* b, int n, float* out) {
    constexpr int NV = K / VW, R = NV >= 8 ? 2 : NV >= 4 ? 4 : 8;
    for (int i = 0; i < QB; i += R) {
        vf acc[R][NV];
        for (int r = 0; r < R; r++)
            for (int c = 0; c < NV; c++) acc[r][c] = ADD ? load(out + (i + r) * K + c * VW) : vf{};
        for (int j = 0; j < n; j++) {
            vf row[NV];
            for (int c = 0; c < NV; c++) row[c] = load(b + j * K + c * VW);
            for (int r = 0; r < R; r++) {
                float x = w[(i + r) * w_ld + j];
                for (int c = 0; c < NV; c++) acc[r][c] += x * row[c];
            }
        }
        for (int r = 0; r < R; r++)
            for (int c = 0; c < NV; c++) store(out + (i + r) * K + c * VW, acc[r][c]);
    }
}

// out[j][:] += sum_i w[i][j] * a[i][:], i < QB, j < n (n a multiple of VW)
template <int K>
void mix_transposed(const float* w, int64_t w_ld, const float* a, int n, float* out) {
    constexpr int NV = K / VW, R = NV >= 8 ? 2 : NV >= 4 ? 4 : 8;
    for (int j = 0; j < n; j += R) {
        vf acc[R][NV];
        for (int r = 0; r < R; r++)
            for (int c = 0; c < NV; c++) acc[r][c] = load(out + (j + r) * K + c * VW);
        for (int i = 0; i < QB; i++) {
            vf row[NV];
            for (int c = 0; c < NV; c++) row[c] = load(a + i * K + c * VW);
            for (int r = 0; r < R; r++) {
                float x = w[i * w_ld + j + r];
                for (int c = 0; c < NV; c++) acc[r][c] += x * row[c];
            }
        }
        for (int r = 0; r < R; r++)
            for (int c = 0; c < NV; c++) store(out + (j + r) * K + c * VW, acc[r][c]);
    }
}

struct Shape {
    int64_t B, L, H, G, window;
    float scale;
};

// Rows of one head as fp32, plain and transposed; `pad` zero keys behind the end keep vector loads inside.
template <int K, typename T>
void gather(const T* src, int64_t stride, int64_t L, int64_t ld, float* plain, float* transposed) {
    for (int64_t t = 0; t < L; t++) {
        float row[K];
        for (int c = 0; c < K; c += VW) store(row + c, load(src + t * stride + c));
        if (plain) std::memcpy(plain + t * K, row, sizeof(row));
        if (transposed)
            for (int d = 0; d < K; d++) transposed[d * ld + t] = row[d];
    }
}

// Calls body(first query, queries, first key, keys) for every block of every document of a row.
template <typename F>
void blocks(const int32_t* start, int64_t L, int64_t window, F body) {
    for (int64_t s = 0; s < L;) {
        int64_t e = s + 1;
        while (e < L && start[e] == s) e++;
        for (int64_t i = s; i < e; i += QB) {
            int64_t nq = e - i < QB ? e - i : QB;
            int64_t lo = window > 0 && i - window + 1 > s ? i - window + 1 : s;
            body(i, static_cast<int>(nq), lo, static_cast<int>(i + nq - lo), s);
        }
        s = e;
    }
}

// p[r][j] <- 2^(p - offset_r) where query i+r sees key lo+j, else 0. With `offset` null it is the row maximum,
// and the row sum is returned in `sum`, the maximum in `top`.
inline void probabilities(float* p, int64_t ld, int nq, int64_t i, int64_t lo, int n, int64_t window, int64_t doc,
                          const float* offset, float* top, float* sum) {
    vi lane;
    for (int c = 0; c < VW; c++) lane[c] = c;
    for (int r = 0; r < QB; r++) {
        float* row = p + r * ld;
        if (r >= nq) {
            for (int j = 0; j < n; j += VW) store(row + j, vf{});
            continue;
        }
        int last = static_cast<int>(i + r - lo);
        int64_t first64 = window > 0 && i + r - window + 1 > doc ? i + r - window + 1 - lo : doc - lo;
        int first = first64 > 0 ? static_cast<int>(first64) : 0;
        float m;
        if (offset) {
            m = offset[r];
        } else {
            m = row[last];
            for (int j = first; j < last; j++) m = row[j] > m ? row[j] : m;
        }
        vf total = {};
        for (int j = 0; j < n; j += VW) {
            vi at = lane + j;
            vi seen = (at >= first) & (at <= last);
            vf x = exp2v(load(row + j) - m);
            x = seen ? x : vf{};
            total += x;
            store(row + j, x);
        }
        if (!offset) {
            float t = 0;
            for (int c = 0; c < VW; c++) t += total[c];
            top[r] = m;
            sum[r] = t;
        }
    }
}


template <int K, typename T>
void forward(const T* q, const T* k, const T* v, T* o, float* lse, const int32_t* start, const int64_t* stride, Shape s) {
    int64_t ld = s.L + 2 * VW, group = s.H / s.G;
#pragma omp parallel
    {
        std::vector<float> kT(K * ld), vv((s.L + 2 * VW) * K), p(QB * ld), qb(QB * K), ob(QB * K);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s.B * s.G; task++) {
            int64_t b = task / s.G, g = task % s.G;
            const int32_t* st = start + b * s.L;
            gather<K>(k + b * s.L * stride[1] + g * K, stride[1], s.L, ld, nullptr, kT.data());
            gather<K>(v + b * s.L * stride[2] + g * K, stride[2], s.L, ld, vv.data(), nullptr);
            for (int64_t h = g * group; h < (g + 1) * group; h++) {
                const T* qh = q + b * s.L * stride[0] + h * K;
                T* oh = o + b * s.L * s.H * K + h * K;
                blocks(st, s.L, s.window, [&](int64_t i, int nq, int64_t lo, int n, int64_t doc) {
                    int padded = (n + VW - 1) / VW * VW;
                    std::memset(qb.data(), 0, sizeof(float) * QB * K);
                    for (int r = 0; r < nq; r++)
                        for (int c = 0; c < K; c += VW)
                            store(&qb[r * K + c], load(qh + (i + r) * stride[0] + c) * (s.scale * LOG2E));
                    scores<K>(qb.data(), kT.data() + lo, ld, padded, p.data(), ld);
                    float top[QB], sum[QB];
                    probabilities(p.data(), ld, nq, i, lo, padded, s.window, doc, nullptr, top, sum);
                    mix<K, false>(p.data(), ld, vv.data() + lo * K, n, ob.data());
                    for (int r = 0; r < nq; r++) {
                        float inv = 1.f / sum[r];
                        for (int c = 0; c < K; c += VW) store(oh + (i + r) * s.H * K + c, load(&ob[r * K + c]) * inv);
                        lse[(b * s.L + i + r) * s.H + h] = top[r] + std::log2(sum[r]);
                    }
                });
            }
        }
    }
}

template <int K, typename T>
void backward(const T* q, const T* k, const T* v, const T* o, const T* go, const float* lse, const int32_t* start,
              T* gq, T* gk, T* gv, const int64_t* stride, Shape s) {
    int64_t ld = s.L + 2 * VW, group = s.H / s.G, rows = s.L + 2 * VW;
#pragma omp parallel
    {
        std::vector<float> kT(K * ld), vT(K * ld), kk(rows * K), gkk(rows * K), gvv(rows * K), p(QB * ld), dp(QB * ld);
        std::vector<float> qb(QB * K), qs(QB * K), gob(QB * K), gqb(QB * K);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s.B * s.G; task++) {
            int64_t b = task / s.G, g = task % s.G;
            const int32_t* st = start + b * s.L;
            gather<K>(k + b * s.L * stride[1] + g * K, stride[1], s.L, ld, kk.data(), kT.data());
            gather<K>(v + b * s.L * stride[2] + g * K, stride[2], s.L, ld, nullptr, vT.data());
            std::memset(gkk.data(), 0, sizeof(float) * rows * K);
            std::memset(gvv.data(), 0, sizeof(float) * rows * K);
            for (int64_t h = g * group; h < (g + 1) * group; h++) {
                const T* qh = q + b * s.L * stride[0] + h * K;
                const T* oh = o + b * s.L * s.H * K + h * K;
                const T* goh = go + b * s.L * s.H * K + h * K;
                T* gqh = gq + b * s.L * s.H * K + h * K;
                blocks(st, s.L, s.window, [&](int64_t i, int nq, int64_t lo, int n, int64_t doc) {
                    int padded = (n + VW - 1) / VW * VW;
                    std::memset(qb.data(), 0, sizeof(float) * QB * K);
                    std::memset(qs.data(), 0, sizeof(float) * QB * K);
                    std::memset(gob.data(), 0, sizeof(float) * QB * K);
                    float delta[QB] = {}, off[QB] = {};
                    for (int r = 0; r < nq; r++) {
                        vf acc = {};
                        for (int c = 0; c < K; c += VW) {
                            vf x = load(qh + (i + r) * stride[0] + c), y = load(goh + (i + r) * s.H * K + c);
                            store(&qb[r * K + c], x * (s.scale * LOG2E));
                            store(&qs[r * K + c], x * s.scale);
                            store(&gob[r * K + c], y);
                            acc += y * load(oh + (i + r) * s.H * K + c);
                        }
                        for (int c = 0; c < VW; c++) delta[r] += acc[c];
                        off[r] = lse[(b * s.L + i + r) * s.H + h];
                    }
                    scores<K>(qb.data(), kT.data() + lo, ld, padded, p.data(), ld);
                    probabilities(p.data(), ld, nq, i, lo, padded, s.window, doc, off, nullptr, nullptr);
                    scores<K>(gob.data(), vT.data() + lo, ld, padded, dp.data(), ld);
                    mix_transposed<K>(p.data(), ld, gob.data(), padded, gvv.data() + lo * K);
                    for (int r = 0; r < QB; r++)
                        for (int j = 0; j < padded; j += VW)
                            store(&dp[r * ld + j], load(&p[r * ld + j]) * (load(&dp[r * ld + j]) - delta[r]));
                    mix<K, false>(dp.data(), ld, kk.data() + lo * K, n, gqb.data());
                    mix_transposed<K>(dp.data(), ld, qs.data(), padded, gkk.data() + lo * K);
                    for (int r = 0; r < nq; r++)
                        for (int c = 0; c < K; c += VW)
                            store(gqh + (i + r) * s.H * K + c, load(&gqb[r * K + c]) * s.scale);
                });
            }
            for (int64_t t = 0; t < s.L; t++)
                for (int c = 0; c < K; c += VW) {
                    store(gk + ((b * s.L + t) * s.G + g) * K + c, load(&gkk[t * K + c]));
                    store(gv + ((b * s.L + t) * s.G + g) * K + c, load(&gvv[t * K + c]));
                }
        }
    }
}

template <typename T, typename F>
int by_width(int64_t K, F f) {
    switch (K) {
        case 16: f(std::integral_constant<int, 16>{}); return 0;
        case 32: f(std::integral_constant<int, 32>{}); return 0;
        case 48: f(std::integral_constant<int, 48>{}); return 0;
        case 64: f(std::integral_constant<int, 64>{}); return 0;
        case 80: f(std::integral_constant<int, 80>{}); return 0;
        case 96: f(std::integral_constant<int, 96>{}); return 0;
        case 128: f(std::integral_constant<int, 128>{}); return 0;
        default: return 1;
    }
}

}  // namespace

#define ENTRY(SUFFIX, T)                                                                                             \
    extern "C" int dokja_attention_forward_##SUFFIX(const T* q, const T* k, const T* v, T* o, float* lse,            \
                                                    const int32_t* start, const int64_t* stride, int64_t B,          \
                                                    int64_t L, int64_t H, int64_t G, int64_t K, int64_t window,      \
                                                    float scale) {                                                   \
        return by_width<T>(K, [&](auto w) {                                                                          \
            forward<decltype(w)::value, T>(q, k, v, o, lse, start, stride, {B, L, H, G, window, scale});             \
        });                                                                                                          \
    }                                                                                                                \
    extern "C" int dokja_attention_backward_##SUFFIX(                                                                \
        const T* q, const T* k, const T* v, const T* o, const T* go, const float* lse, const int32_t* start, T* gq,  \
        T* gk, T* gv, const int64_t* stride, int64_t B, int64_t L, int64_t H, int64_t G, int64_t K, int64_t window,  \
        float scale) {                                                                                               \
        return by_width<T>(K, [&](auto w) {                                                                          \
            backward<decltype(w)::value, T>(q, k, v, o, go, lse, start, gq, gk, gv, stride,                          \
                                            {B, L, H, G, window, scale});                                            \
        });                                                                                                          \
    }

ENTRY(f32, float)
ENTRY(bf16, uint16_t)
