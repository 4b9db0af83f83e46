#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "engine/engine.h"

namespace doppel::engine::direct {

/// Which programs run faster directly: those that compute for long between two system calls or page faults, for each of
/// these costs two switches of processes; and those that are left alone meanwhile, for when another address space comes
/// in between, all pages have to be mapped anew. Told apart by their address spaces; learnt by trying.
class Preference {
 public:
  using Clock = std::chrono::steady_clock;
  /// What a turn of the process takes without doing anything, about.
  static constexpr std::chrono::nanoseconds kSwitches{4500};

  explicit Preference(DirectExecution when) : when_(when) {}

  /// To be asked often while a program runs. `returns` counts how often any has gone on after a system call or an
  /// exception. `now` is for tests.
  bool ask(std::uint64_t space, std::uint64_t returns, Clock::time_point now = Clock::now());
  /// Whether the program was seen to compute when ask() was called just now, though not for long enough to make code
  /// for it.
  bool sighted() const { return sighted_; }
  /// It runs directly from now on: all is ready for that.
  void prefer(std::uint64_t space, Clock::time_point now = Clock::now());
  /// What ask() would have said last.
  bool favours(std::uint64_t space) const;
  /// What a while of direct execution was spent on.
  struct Spent {
    Clock::duration time{};      ///< in all
    Clock::duration learning{};  ///< of this, on translating code
    Clock::duration computed{};  ///< of this, by the program itself
    unsigned rewritten = 0;      ///< how often a page of the program's code was stored to
  };
  void ran(std::uint64_t space, const Spent& spent, Clock::time_point now = Clock::now());

 private:
  struct Space {
    std::uint64_t space = ~std::uint64_t{0};
    bool direct = false;
    bool tried = false;  ///< directly, once
    unsigned sightings = 0;
    std::uint64_t returns = 0;   ///< when it was seen
    std::uint64_t switches = 0;  ///< likewise; while it runs directly, when the period began
    Clock::time_point asked{}, seen{}, barred_until{};
    Clock::duration bar{};
    Clock::time_point period{};          ///< when it began
    Clock::duration time{}, computed{};  ///< in it
    unsigned rewritten = 0;              ///< in it

    void begin(Clock::time_point now) {
      period = now;
      time = computed = {};
      rewritten = 0;
    }
  };
  Space& entry(std::uint64_t space) { return spaces_[space / 4096 % spaces_.size()]; }

  DirectExecution when_;
  std::array<Space, 64> spaces_{};
  bool sighted_ = false;
  std::uint64_t last_space_ = ~std::uint64_t{0};
  std::uint64_t switches_ = 0;                               ///< from one address space to another
  Clock::duration credit_ = std::chrono::milliseconds(200);  ///< for learning
};

}  // namespace doppel::engine::direct
