#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The host's side of `run -c`: how a command gets into the embedded guest, and its input, its end and its status
/// across serial ports. guest/README.md is the contract.
namespace doppel::cli {

/// COM1 to COM4, counted from 0.
namespace port {
inline constexpr unsigned kConsole = 0;
inline constexpr unsigned kInputOutput = 1;
inline constexpr unsigned kControl = 2;
inline constexpr unsigned kErrors = 3;
}  // namespace port

/// A cpio archive ("newc") with doppel/command in it, to be appended to the initramfs.
std::vector<std::byte> make_command_archive(std::string_view command);

/// Turns standard input into what a terminal in canonical mode takes for the same bytes.
class InputEncoder {
 public:
  std::vector<std::byte> encode(std::span<const std::byte> input);
  /// The end of file.
  std::vector<std::byte> finish() const;

 private:
  std::size_t unpushed_ = 0;  ///< bytes since the last newline or push
};

/// Follows the control lines.
class CommandProgress {
 public:
  void feed(std::span<const std::byte> bytes);
  /// The command is about to start: input may be sent.
  bool ready() const { return ready_; }
  /// Once the command has ended.
  std::optional<int> status() const { return status_; }

 private:
  void line(std::string_view text);

  static constexpr std::size_t kMaxLine = 64;
  std::string partial_;
  bool ready_ = false;
  std::optional<int> status_;
};

}  // namespace doppel::cli
