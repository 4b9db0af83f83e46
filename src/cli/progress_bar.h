#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace doppel::cli {

/// A line on standard error that shows how far long work has come, if that is a terminal; else nothing. The line is
/// gone when the bar is. For one thread at a time.
class ProgressBar {
 public:
  explicit ProgressBar(std::string what, bool quiet = false);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();

  void show(std::uint64_t done, std::uint64_t total);

 private:
  std::string what_;
  bool enabled_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point started_, next_;
};

}  // namespace doppel::cli
