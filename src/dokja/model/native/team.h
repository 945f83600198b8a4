// A few threads that go through the phases of a step together.
//
// A member takes the chunks of its own stretch in order, so that it reads memory in order, and then those that are left
// of others'; at a phase's end all wait for the last. Waiting spins for some microseconds only and then sleeps in the
// kernel: where another program takes a core, a spinning thread would keep its own fellow from the core that fellow
// needs.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace {

inline void pause_cpu() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

class Event {  // a number that grows; waiting for it to differ from what one has seen
public:
    int now() const { return value_.load(std::memory_order_acquire); }
    void raise() {
        value_.fetch_add(1, std::memory_order_seq_cst);
        if (sleepers_.load(std::memory_order_seq_cst)) syscall(SYS_futex, &value_, FUTEX_WAKE_PRIVATE, 1 << 20, 0, 0, 0);
    }
    void wait(int seen, int spins) {
        for (int i = 0; i < spins; i++) {
            if (now() != seen) return;
            pause_cpu();
        }
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        while (now() == seen) syscall(SYS_futex, &value_, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
        sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }

private:
    std::atomic<int> value_{0}, sleepers_{0};
};

class Team {
public:
    explicit Team(int size) : size_(size), next_(3 * size) {
        for (int i = 1; i < size; i++) threads_.emplace_back([this, i] { serve(i); });
        for (auto& t : threads_) t.detach();  // they sleep until the process ends
    }
    int size() const { return size_; }

    // Runs job(member) on every member and waits for all.
    void run(const std::function<void(int)>& job) {
        job_ = &job;
        begin_.raise();
        job(0);
        barrier();
    }

    // Inside a job: chunks 0..count-1 of the next phase, each to one member, then all wait for all.
    template <class F>
    void phase(int member, int64_t count, F work) {
        int mine = phases_[member * 16]++;
        Counter *now = &next_[mine % 3 * size_], *after = &next_[(mine + 1) % 3 * size_];
        after[member].value.store(0, std::memory_order_relaxed);  // nobody is there yet, nor still
        for (int v = 0; v < size_; v++) {
            const int whose = (member + v) % size_;
            const int64_t begin = count * whose / size_, left = count * (whose + 1) / size_ - begin;
            for (int64_t i; (i = now[whose].value.fetch_add(1, std::memory_order_relaxed)) < left;) work(begin + i);
        }
        barrier();
    }

private:
    static constexpr int SPINS = 2000;
    struct alignas(64) Counter {
        std::atomic<int64_t> value{0};
    };

    void barrier() {
        int seen = end_.now();
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
            arrived_.store(0, std::memory_order_relaxed);
            end_.raise();
        } else {
            end_.wait(seen, SPINS);
        }
    }
    void serve(int member) {
        for (int seen = 0;; seen++) {
            begin_.wait(seen, SPINS);
            (*job_)(member);
            barrier();
        }
    }

    const int size_;
    std::vector<std::thread> threads_;
    const std::function<void(int)>* job_ = nullptr;
    Event begin_, end_;
    std::atomic<int> arrived_{0};
    std::vector<Counter> next_;  // [3][size]: of this phase, the last and the next
    std::vector<int> phases_ = std::vector<int>(size_ * 16);
};

}  // namespace
