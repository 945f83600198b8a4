// Sixteen floats at a time, whatever the processor's registers hold: GCC's and Clang's vectors, no intrinsics.
#pragma once

#include <cstdint>

namespace {

constexpr int VW = 16;  // floats a vector
constexpr float LOG2E = 1.44269504f;

typedef float vf __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint16_t vh __attribute__((vector_size(VW * 2), aligned(2), may_alias));

inline vf load(const float* p) { return *reinterpret_cast<const vf*>(p); }
inline void store(float* p, vf v) { *reinterpret_cast<vf*>(p) = v; }
inline vf splat(float x) { return x - vf{}; }

inline vf load(const uint16_t* p) {  // bf16 -> fp32
    vu wide = __builtin_convertvector(*reinterpret_cast<const vh*>(p), vu) << 16;
    return reinterpret_cast<vf&>(wide);
}
inline void store(uint16_t* p, vf v) {  // fp32 -> bf16, round to nearest even
    vu u = reinterpret_cast<vu&>(v);
    u = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    *reinterpret_cast<vh*>(p) = __builtin_convertvector(u, vh);
}

inline float sum(vf v) {
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    return (v[0] + v[1]) + (v[2] + v[3]);
}

inline float highest(vf v) {
    vf w = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v = v > w ? v : w;
    w = __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v = v > w ? v : w;
    float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

// 2^x for x <= 0 (relative error ~2e-7); very negative x gives 0.
inline vf exp2v(vf x) {
    vf lowest = splat(-126.f);
    vi small = x < lowest;
    x = small ? lowest : x;
    vf magic = splat(12582912.f);
    vf whole = (x + magic) - magic;
    vf f = x - whole;
    vf p = splat(1.5353362e-4f);
    p = p * f + 1.3398874e-3f;
    p = p * f + 9.6184373e-3f;
    p = p * f + 5.5503324e-2f;
    p = p * f + 2.4022648e-1f;
    p = p * f + 6.9314720e-1f;
    p = p * f + 1.f;
    vi e = (__builtin_convertvector(whole, vi) + 127) << 23;
    vf r = p * reinterpret_cast<vf&>(e);
    return small ? vf{} : r;
}

inline vf silu(vf x) {
    vi positive = x > 0.f;
    vf e = exp2v((positive ? -x : x) * LOG2E);
    return x * (positive ? splat(1.f) : e) / (e + 1.f);
}

}  // namespace
