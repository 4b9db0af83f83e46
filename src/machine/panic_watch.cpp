#include "machine/panic_watch.h"

#include <string_view>
#include <utility>

namespace doppel::machine {

void PanicWatch::feed(std::span<const std::byte> output) {
  for (const std::byte byte : output) {
    const char c = static_cast<char>(byte);
    if (c == '\n') {
      end_line();
    } else if (line_.size() < kMaxLine) {
      line_ += c;
    }
  }
}

std::string PanicWatch::reason() const {
  const std::scoped_lock lock(mutex_);
  return reason_.empty() ? "no reason on its console" : reason_;
}

void PanicWatch::end_line() {
  static constexpr std::string_view kBegin = "Kernel panic - not syncing: ";
  // The closing line, so that the report above it (registers, call trace) has reached the user.
  static constexpr std::string_view kEnd = "---[ end ", kEndMark = " ]---";
  const std::size_t start = line_.find(kBegin);
  if (start != std::string::npos) {
    std::string reason = line_.substr(start + kBegin.size());
    const bool closes = line_.find(kEnd) < start;
    if (const std::size_t mark = reason.rfind(closes ? kEndMark : "\r"); mark != std::string::npos) reason.resize(mark);
    {
      const std::scoped_lock lock(mutex_);
      reason_ = reason;
    }
    if (closes) on_panic_(std::move(reason));
  }
  line_.clear();
}

}  // namespace doppel::machine
