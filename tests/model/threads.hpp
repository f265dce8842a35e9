/// \file
/// The executors that the tests of models run with: OpenMP where the build has it, and a pool of std::thread behind the callback.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agilequant/model/executor.hpp"

namespace aq_test {

/// Threads that sleep until there is work; the caller works too, as worker 0.
class thread_pool {
public:
    explicit thread_pool(std::size_t workers) {
        for (std::size_t worker = 1; worker < workers; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
    }
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    ~thread_pool() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            is_over_ = true;
        }
        wake_.notify_all();
        for (std::thread& t : threads_) t.join();
    }
    [[nodiscard]] aq::executor executor() { return {threads_.size() + 1, this, run}; }

private:
    using task_function = void (*)(void* data, std::size_t index, std::size_t worker);

    static void run(void* pool, std::size_t tasks, task_function task, void* data) {
        auto& p = *static_cast<thread_pool*>(pool);
        {
            const std::lock_guard<std::mutex> lock(p.mutex_);
            p.task_ = task;
            p.data_ = data;
            p.tasks_ = tasks;
            p.next_ = 0;
            p.busy_ = p.threads_.size();
            ++p.round_;
        }
        p.wake_.notify_all();
        p.work(0);
        std::unique_lock<std::mutex> lock(p.mutex_);
        p.done_.wait(lock, [&p] { return p.busy_ == 0; });
    }
    void work(std::size_t worker) {
        for (std::size_t i = next_++; i < tasks_; i = next_++) task_(data_, i, worker);
    }
    void serve(std::size_t worker) {
        std::size_t seen = 0;
        for (std::unique_lock<std::mutex> lock(mutex_);;) {
            wake_.wait(lock, [&] { return is_over_ || round_ != seen; });
            if (is_over_) return;
            seen = round_;
            lock.unlock();
            work(worker);
            lock.lock();
            if (--busy_ == 0) done_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    task_function task_ = nullptr;
    void* data_ = nullptr;
    std::size_t tasks_ = 0, busy_ = 0, round_ = 0;
    std::atomic<std::size_t> next_{0};
    bool is_over_ = false;
    std::vector<std::thread> threads_;
};

struct named_executor {
    std::string name;
    aq::executor threads;
    std::shared_ptr<thread_pool> pool;  // kept alive
};

/// Serial, and 1 to `most` threads of every kind.
inline std::vector<named_executor> all_executors(std::size_t most) {
    std::vector<named_executor> all{{"serial", aq::serial_executor(), nullptr}};
    for (std::size_t n = 1; n <= most; ++n) {
        auto pool = std::make_shared<thread_pool>(n);
        all.push_back({"pool of " + std::to_string(n), pool->executor(), pool});
#if AQ_OPENMP
        all.push_back({"OpenMP with " + std::to_string(n), aq::openmp_executor(n), nullptr});
#endif
    }
    return all;
}

}  // namespace aq_test
