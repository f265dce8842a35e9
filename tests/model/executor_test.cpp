// Who runs the tasks: each exactly once, no worker twice at a time; and how work is cut.
#include "agilequant/model/executor.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "agilequant/model/run_context.hpp"
#include "model/threads.hpp"
#include "support/status_text.hpp"

using aq::status;
using namespace aq_test;

TEST_CASE("every task runs once, on a worker that does nothing else meanwhile") {
    for (const named_executor& e : all_executors(8)) {
        CAPTURE(e.name);
        for (const std::size_t tasks : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{200}}) {
            CAPTURE(tasks);
            std::vector<std::atomic<int>> runs(tasks), busy(e.threads.workers);
            std::atomic<int> wrong{0};
            e.threads.for_each(tasks, [&](std::size_t index, std::size_t worker) {
                if (index >= tasks || worker >= e.threads.workers || busy[worker].fetch_add(1) != 0) {
                    ++wrong;
                    return;
                }
                ++runs[index];
                --busy[worker];
            });
            CHECK(wrong == 0);
            CHECK(std::all_of(runs.begin(), runs.end(), [](const std::atomic<int>& r) { return r == 1; }));
        }
    }
}

TEST_CASE("an executor without a function is serial, whatever it says of workers") {
    aq::executor e;
    e.workers = 4;
    std::vector<std::size_t> order;
    e.for_each(5, [&](std::size_t index, std::size_t worker) {
        CHECK(worker == 0);
        order.push_back(index);
    });
    CHECK(order == std::vector<std::size_t>{0, 1, 2, 3, 4});
#if AQ_OPENMP
    CHECK(aq::openmp_executor(0).workers == 1);
#endif
}

TEST_CASE("the callback gets the pool and the number of tasks, and nothing for a single task") {
    struct recorded {
        std::vector<std::size_t> calls;
        static void run(void* pool, std::size_t tasks, void (*task)(void*, std::size_t, std::size_t), void* data) {
            static_cast<recorded*>(pool)->calls.push_back(tasks);
            for (std::size_t i = tasks; i-- > 0;) task(data, i, i % 3);
        }
    } pool;
    const aq::executor e{3, &pool, recorded::run};
    std::size_t sum = 0;
    for (const std::size_t tasks : {std::size_t{0}, std::size_t{1}, std::size_t{4}})
        e.for_each(tasks, [&](std::size_t index, std::size_t) { sum += index + 1; });
    CHECK(sum == 1 + 10);
    CHECK(pool.calls == std::vector<std::size_t>{4});
}

TEST_CASE("pieces follow each other, cover everything, begin at steps and differ by at most one step") {
    for (std::size_t count = 0; count <= 40; ++count)
        for (std::size_t pieces = 1; pieces <= 9; ++pieces)
            for (const std::size_t step : {std::size_t{1}, std::size_t{4}, std::size_t{16}}) {
                std::size_t at = 0, smallest = count, largest = 0;
                bool good = true;
                for (std::size_t i = 0; i < pieces; ++i) {
                    const aq::index_range r = aq::piece(count, pieces, i, step);
                    good =
                        good && r.begin == at && r.end >= r.begin && r.end <= count && (r.begin % step == 0 || r.begin == count);
                    at = r.end;
                    smallest = std::min(smallest, r.size());
                    largest = std::max(largest, r.size());
                }
                CAPTURE(count);
                CAPTURE(pieces);
                CAPTURE(step);
                CHECK(good);
                CHECK(at == count);
                CHECK(largest <= smallest + 2 * step - 1);  // one step, and what the last lacks of one
            }
}

TEST_CASE("there are never more pieces than things, nor more than a few for each worker") {
    aq::executor e;
    for (std::size_t workers = 1; workers <= 9; ++workers)
        for (std::size_t count = 0; count <= 100; ++count) {
            e.workers = workers;
            const std::size_t pieces = aq::piece_count(e, count);
            CHECK(pieces >= 1);
            CHECK(pieces <= std::max<std::size_t>(count, 1));
            CHECK((workers == 1 ? pieces == 1 : pieces <= 4 * workers));
        }
}

TEST_CASE("a task that fails is what for_each answers, and the others run all the same") {
    for (const named_executor& e : all_executors(4)) {
        aq::run_context context;
        context.threads = e.threads;
        std::atomic<int> runs{0};
        const auto failing = [&](std::size_t bad) {
            return context.for_each(50, [&](std::size_t i, std::size_t) {
                ++runs;
                return i == bad ? status::cache_full : status::ok;
            });
        };
        CHECK(failing(17) == status::cache_full);
        CHECK(failing(99) == status::ok);
        CHECK(runs == 100);
    }
    aq::task_status first;
    first.note(status::bad_shape);
    first.note(status::ok);
    first.note(status::cache_full);
    CHECK(first.get() == status::bad_shape);
}

TEST_CASE("scratch: a piece for each worker, aligned and apart; it grows and never shrinks") {
    aq::worker_scratch scratch;
    REQUIRE(scratch.reserve(3, 100) == status::ok);
    CHECK(scratch.bytes() == 128);
    REQUIRE(scratch.reserve(5, 10) == status::ok);
    CHECK(scratch.bytes() == 128);
    for (std::size_t worker = 0; worker < 5; ++worker) {
        CHECK(reinterpret_cast<std::uintptr_t>(scratch.of(worker)) % aq::cache_line_bytes == 0);
        CHECK(scratch.of(worker) == scratch.of(0) + worker * 128);
        std::memset(scratch.of(worker), 1, scratch.bytes());
    }
}
