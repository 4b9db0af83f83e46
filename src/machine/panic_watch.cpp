#include "machine/panic_watch.h"

#include <string_view>

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

void PanicWatch::end_line() {
  // The closing line, so that the report above it (registers, call trace) has reached the user.
  static constexpr std::string_view kEnd = "---[ end Kernel panic - not syncing: ";
  static constexpr std::string_view kEndMark = " ]---";
  const std::size_t start = line_.find(kEnd);
  if (start != std::string::npos) {
    std::string reason = line_.substr(start + kEnd.size());
    if (const std::size_t mark = reason.find(kEndMark); mark != std::string::npos) reason.resize(mark);
    on_panic_(std::move(reason));
  }
  line_.clear();
}

}  // namespace doppel::machine
