#pragma once

#include <sys/wait.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

/// The format's other programs, as judges.
namespace doppel::test {

struct Ran {
  int status;          ///< exit status, -1 if it did not end by itself
  std::string output;  ///< standard output and error
};

inline Ran run_tool(const std::vector<std::string>& command) {
  std::string line;
  for (const std::string& word : command) {
    line += "'";
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += "' ";
  }
  line += "2>&1";
  std::FILE* const pipe = ::popen(line.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen");
  Ran ran{-1, {}};
  std::array<char, 4096> buffer{};
  for (std::size_t got = 0; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    ran.output.append(buffer.data(), got);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) ran.status = WEXITSTATUS(status);
  return ran;
}

/// Runs it and throws with what it said unless it exits with 0.
inline std::string must_run(const std::vector<std::string>& command) {
  Ran ran = run_tool(command);
  if (ran.status == 0) return ran.output;
  std::string line;
  for (const std::string& word : command) line += word + " ";
  throw std::runtime_error(line + "exits with " + std::to_string(ran.status) + ": " + ran.output);
}

inline std::vector<std::byte> file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto* const begin = reinterpret_cast<const std::byte*>(bytes.data());
  return {begin, begin + bytes.size()};
}

/// The disk's contents as QEMU sees them.
inline std::vector<std::byte> contents_by_qemu(const std::string& image, const std::string& format,
                                               const std::string& scratch) {
  must_run({"qemu-img", "convert", "-f", format, "-O", "raw", image, scratch});
  return file_bytes(scratch);
}

}  // namespace doppel::test
