#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::control {

/// What the guest has printed on its console, in two files of bounded length that take turns: when one is full, the
/// other is emptied and goes on. Both are opened at once, for a machine in its jail opens no files. One thread at a
/// time.
class ConsoleLog {
 public:
  static constexpr std::size_t kMaxLength = std::size_t{1} << 20;

  static Result<ConsoleLog> create(const std::string& path, const std::string& other_path,
                                   std::size_t max_length = kMaxLength);

  /// What cannot be written (a full disk) is lost: the guest goes on.
  void append(std::span<const std::byte> bytes);

 private:
  ConsoleLog(std::array<UniqueFd, 2> files, std::size_t max_length)
      : files_(std::move(files)), max_length_(max_length) {}

  std::array<UniqueFd, 2> files_;
  std::size_t current_ = 0;  ///< the one that is being written
  std::size_t max_length_;
  std::size_t length_ = 0;  ///< of the current one
};

/// Reads such a log while it grows, from the oldest that is kept. Who falls behind by more than a file's length loses
/// what lies between.
class ConsoleLogReader {
 public:
  static Result<ConsoleLogReader> open(const std::string& path, const std::string& other_path,
                                       std::size_t max_length = ConsoleLog::kMaxLength);

  /// Hands over what has come since the last call, in pieces; ends early with false when `take` returns that.
  bool read(const std::function<bool(std::span<const std::byte>)>& take);

 private:
  ConsoleLogReader(std::array<UniqueFd, 2> files, std::size_t max_length);
  bool at_turn() const;

  std::array<UniqueFd, 2> files_;
  std::size_t current_ = 0;
  std::size_t offset_ = 0;
  std::size_t max_length_;
};

}  // namespace doppel::control
