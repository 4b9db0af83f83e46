#include "cli/command_protocol.h"

#include <fmt/format.h>

#include <charconv>

namespace doppel::cli {
namespace {

constexpr std::byte kEndOfFile{0x04};
constexpr std::byte kQuote{0x16};
constexpr std::byte kNewline{'\n'};
constexpr std::size_t kPushAfter = 1024;

/// The kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
void append_entry(std::string& archive, unsigned inode, unsigned mode, std::string_view name,
                  std::string_view content) {
  const auto pad = [&archive] { archive.resize((archive.size() + 3) / 4 * 4); };
  const unsigned links = 1;
  archive += fmt::format("070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", inode,
                         mode, 0, 0, links, 0, content.size(), 0, 0, 0, 0, name.size() + 1, 0);
  archive += name;
  archive += '\0';
  pad();
  archive += content;
  pad();
}

}  // namespace

std::vector<std::byte> make_command_archive(std::string_view command) {
  constexpr unsigned kDirectory = 0040755;
  constexpr unsigned kFile = 0100644;
  std::string archive;
  append_entry(archive, 1, kDirectory, "doppel", {});
  append_entry(archive, 2, kFile, "doppel/command", command);
  append_entry(archive, 0, 0, "TRAILER!!!", {});
  const auto bytes = std::as_bytes(std::span{archive});
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> InputEncoder::encode(std::span<const std::byte> input) {
  std::vector<std::byte> encoded;
  encoded.reserve(input.size() + input.size() / 64);
  for (const std::byte byte : input) {
    if (byte == kEndOfFile || byte == kQuote) encoded.push_back(kQuote);
    encoded.push_back(byte);
    unpushed_ = byte == kNewline ? 0 : unpushed_ + 1;
    if (unpushed_ == kPushAfter) {
      encoded.push_back(kEndOfFile);
      unpushed_ = 0;
    }
  }
  // Whoever reads in the guest shall have what was sent, not only its whole lines.
  if (unpushed_ != 0) encoded.push_back(kEndOfFile);
  unpushed_ = 0;
  return encoded;
}

std::vector<std::byte> InputEncoder::finish() const {
  return {kEndOfFile};
}

void CommandProgress::feed(std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    const auto character = static_cast<char>(byte);
    if (character == '\n') {
      line(partial_);
      partial_.clear();
    } else if (partial_.size() < kMaxLine) {
      partial_ += character;
    }
  }
}

void CommandProgress::line(std::string_view text) {
  constexpr std::string_view kExit = "exit ";
  if (text == "ready") ready_ = true;
  if (!text.starts_with(kExit)) return;
  text.remove_prefix(kExit.size());
  int status = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), status);
  if (error == std::errc{} && end == text.data() + text.size() && status >= 0 && status <= 255) status_ = status;
}

}  // namespace doppel::cli
