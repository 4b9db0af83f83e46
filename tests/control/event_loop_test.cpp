#include "control/event_loop.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>

#include "control/loop_thread.h"

namespace doppel::control {
namespace {

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    read = UniqueFd(ends[0]);
    write = UniqueFd(ends[1]);
  }
  UniqueFd read, write;
};

TEST(EventLoop, CallsWhenReadable) {
  const auto loop = EventLoop::create().value();
  const Pipe pipe;
  char got = 0;
  loop->watch(pipe.read.get(), POLLIN, [&](short) {
    EXPECT_EQ(::read(pipe.read.get(), &got, 1), 1);
    loop->quit();
  });
  loop->post([&] { EXPECT_EQ(::write(pipe.write.get(), "x", 1), 1); });
  loop->run();
  EXPECT_EQ(got, 'x');
}

TEST(EventLoop, ForgottenDescriptorsStaySilent) {
  const auto loop = EventLoop::create().value();
  const Pipe first;
  const Pipe second;
  int calls = 0;
  // Both are ready in the same wait; whichever comes first silences the other.
  loop->watch(first.read.get(), POLLIN, [&](short) {
    ++calls;
    loop->forget(first.read.get());
    loop->forget(second.read.get());
    loop->quit();
  });
  loop->watch(second.read.get(), POLLIN, [&](short) {
    ++calls;
    loop->forget(first.read.get());
    loop->forget(second.read.get());
    loop->quit();
  });
  EXPECT_EQ(::write(first.write.get(), "x", 1), 1);
  EXPECT_EQ(::write(second.write.get(), "x", 1), 1);
  loop->run();
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, AWatchMayForgetItself) {
  const auto loop = EventLoop::create().value();
  const Pipe pipe;
  const std::string kept = "the callback's own captures outlive forget()";
  std::string seen;
  loop->watch(pipe.read.get(), POLLIN, [&, kept](short) {
    loop->forget(pipe.read.get());
    seen = kept;
    loop->quit();
  });
  EXPECT_EQ(::write(pipe.write.get(), "x", 1), 1);
  loop->run();
  EXPECT_EQ(seen, kept);
}

TEST(EventLoop, ChangedEventsTakeEffect) {
  const auto loop = EventLoop::create().value();
  const Pipe pipe;
  int calls = 0;
  EXPECT_EQ(::write(pipe.write.get(), "x", 1), 1);
  loop->watch(pipe.read.get(), 0, [&](short) {
    ++calls;
    loop->quit();
  });
  loop->after(std::chrono::milliseconds(5), [&] {
    EXPECT_EQ(calls, 0);
    loop->set_events(pipe.read.get(), POLLIN);
  });
  loop->run();
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, TimersRunOnceInOrderUnlessCancelled) {
  const auto loop = EventLoop::create().value();
  std::string order;
  loop->after(std::chrono::milliseconds(20), [&] {
    order += 'c';
    loop->quit();
  });
  loop->after(std::chrono::milliseconds(1), [&] { order += 'a'; });
  const auto cancelled = loop->after(std::chrono::milliseconds(2), [&] { order += 'x'; });
  loop->after(std::chrono::milliseconds(0), [&] { loop->cancel(cancelled); });
  loop->run();
  EXPECT_EQ(order, "ac");
}

TEST(EventLoop, TimersThatAreLateRunInTheOrderOfTheirTimes) {
  const auto loop = EventLoop::create().value();
  std::string order;
  loop->after(std::chrono::milliseconds(-1), [&] {
    order += 'c';
    loop->quit();
  });
  loop->after(std::chrono::milliseconds(-3), [&] { order += 'a'; });
  loop->after(std::chrono::milliseconds(-2), [&] { order += 'b'; });
  loop->run();
  EXPECT_EQ(order, "abc");
}

TEST(EventLoop, PostedActionsOfAllThreadsRun) {
  test::LoopThread thread;
  int count = 0;
  std::vector<std::thread> posters;
  posters.reserve(4);
  for (int i = 0; i < 4; ++i) {
    posters.emplace_back([&] {
      for (int j = 0; j < 250; ++j) thread.loop().post([&] { ++count; });
    });
  }
  for (std::thread& poster : posters) poster.join();
  thread.run([] {});
  EXPECT_EQ(count, 1000);
}

}  // namespace
}  // namespace doppel::control
