#pragma once

#include <cstdint>
#include <string>

#include "base/log.h"

namespace doppel::machine {

/// Collects what a guest writes to its debug ports and logs it by lines. One thread at a time.
class DebugLog {
 public:
  void put(std::uint8_t byte) {
    if (byte != '\n' && line_.size() < kMaxLine) {
      if (byte != '\r') line_ += static_cast<char>(byte);
      return;
    }
    log::info("guest", "{}", line_);
    line_.clear();
  }

 private:
  static constexpr std::size_t kMaxLine = 1024;
  std::string line_;
};

}  // namespace doppel::machine
