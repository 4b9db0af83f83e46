#pragma once

#include <cstddef>
#include <string>
#include <vector>

/// The format's other programs, as judges.
namespace doppel::test {

struct Ran {
  int status;          ///< exit status, -1 if it did not end by itself
  std::string output;  ///< standard output and error
};

Ran run_tool(const std::vector<std::string>& command);

/// Runs it and throws with what it said unless it exits with 0.
std::string must_run(const std::vector<std::string>& command);

/// The disk's contents as QEMU sees them.
std::vector<std::byte> contents_by_qemu(const std::string& image, const std::string& format,
                                        const std::string& scratch);

std::vector<std::byte> file_bytes(const std::string& path);

}  // namespace doppel::test
