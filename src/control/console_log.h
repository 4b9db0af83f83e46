#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::control {

/// What the guest has printed on its console, in a file of bounded length: when that is full it becomes the older one,
/// whose predecessor is lost. One thread at a time.
class ConsoleLog {
 public:
  static constexpr std::size_t kMaxLength = std::size_t{1} << 20;

  static Result<ConsoleLog> create(const std::string& path, const std::string& older_path,
                                   std::size_t max_length = kMaxLength);

  /// What cannot be written (a full disk) is lost: the guest goes on.
  void append(std::span<const std::byte> bytes);

 private:
  ConsoleLog(UniqueFd file, std::string path, std::string older_path, std::size_t max_length);
  void turn_over();

  UniqueFd file_;
  std::string path_;
  std::string older_path_;
  std::size_t max_length_;
  std::size_t length_ = 0;
};

}  // namespace doppel::control
