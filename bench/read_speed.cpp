// How fast some threads together read memory in huge pages: for each line on standard input, one line with GB/s.
//
//   read_speed THREADS MEGABYTES SECONDS
//
// Every thread reads its own part over and over, front to back with prefetches ahead, then from four places at once;
// the faster way counts. Threads live for one measurement only, so that nothing is awake between two.
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

using Lanes __attribute__((vector_size(64))) = uint64_t;
using Clock = std::chrono::steady_clock;
constexpr size_t HUGE_PAGE = 2 << 20, PIECES = 16, AHEAD = 64;

template <size_t STREAMS>
uint64_t read_piece(const Lanes* data, size_t count) {
    Lanes sum[STREAMS] = {};
    const size_t part = count / STREAMS;
    for (size_t i = 0; i < part; i++)
        for (size_t s = 0; s < STREAMS; s++) {
            if (STREAMS == 1) __builtin_prefetch(data + i + AHEAD);
            sum[s] += data[s * part + i];
        }
    uint64_t all = 0;
    for (const Lanes& lanes : sum)
        for (int i = 0; i < 8; i++) all += lanes[i];
    return all;
}

template <size_t STREAMS>
double measure(const Lanes* data, size_t count, int threads, double seconds, std::atomic<uint64_t>& kept) {
    std::atomic<uint64_t> bytes{0};
    const auto began = Clock::now();
    const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
    std::vector<std::thread> team;
    for (int t = 0; t < threads; t++)
        team.emplace_back([&, t] {
            const size_t own = count / threads, piece = own / PIECES;
            for (size_t p = 0; passed() < seconds; p = (p + 1) % PIECES) {
                kept += read_piece<STREAMS>(data + t * own + p * piece, piece);
                bytes += piece / STREAMS * STREAMS * sizeof(Lanes);
            }
        });
    for (auto& one : team) one.join();
    return bytes / passed() / 1e9;
}

int main(int count, char** values) {
    if (count != 4) return 2;
    const int threads = std::atoi(values[1]);
    const size_t bytes = size_t(std::atoi(values[2])) << 20;
    const double seconds = std::atof(values[3]) / 2;
    void* raw = mmap(nullptr, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) return 1;
    auto* data = reinterpret_cast<Lanes*>((uintptr_t(raw) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    madvise(data, bytes, MADV_HUGEPAGE);
    std::memset(data, 1, bytes);
    std::atomic<uint64_t> kept{0};
    const size_t lanes = bytes / sizeof(Lanes);
    for (std::string line; std::getline(std::cin, line);) {
        const double one = measure<1>(data, lanes, threads, seconds, kept);
        std::printf("%.3f\n", std::max(one, measure<4>(data, lanes, threads, seconds, kept)));
        std::fflush(stdout);
    }
    return kept == 1;
}
