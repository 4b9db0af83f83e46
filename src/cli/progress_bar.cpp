#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "cli/message.h"

namespace doppel::cli {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr std::uint64_t kWidth = 30;

}  // namespace

ProgressBar::ProgressBar(std::string what, bool quiet)
    : what_(std::move(what)),
      enabled_(!quiet && ::isatty(STDERR_FILENO) != 0),
      started_(std::chrono::steady_clock::now()),
      next_(started_ + kInterval) {}

ProgressBar::~ProgressBar() {
  if (drawn_) cli::show("\r\033[K");
}

void ProgressBar::show(std::uint64_t done, std::uint64_t total) {
  const auto now = std::chrono::steady_clock::now();
  if (!enabled_ || now < next_ || total == 0) return;
  next_ = now + kInterval;
  drawn_ = true;
  const double part = static_cast<double>(done) / static_cast<double>(total);
  const auto filled = static_cast<std::uint64_t>(part * kWidth);
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const std::string left = part > 0.01 ? fmt::format(", {:.0f} s left", seconds / part - seconds) : std::string();
  cli::show(
      fmt::format("\r{} [{:#<{}}{:.<{}}] {:3.0f} %{}\033[K", what_, "", filled, "", kWidth - filled, part * 100, left));
}

}  // namespace doppel::cli
