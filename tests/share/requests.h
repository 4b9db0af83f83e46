#pragma once

#include <linux/fuse.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace doppel::test {

/// A FUSE request as a guest writes it: a header, then structures and strings.
class FuseRequest {
 public:
  FuseRequest(std::uint32_t opcode, std::uint64_t node) {
    fuse_in_header header{};
    header.opcode = opcode;
    header.nodeid = node;
    header.unique = 7;
    with(header);
  }
  template <class T>
  FuseRequest& with(const T& value) {
    const auto raw = std::as_bytes(std::span{&value, 1});
    bytes.insert(bytes.end(), raw.begin(), raw.end());
    return *this;
  }
  FuseRequest& text(const std::string& value) {
    const auto raw = std::as_bytes(std::span{value.c_str(), value.size() + 1});
    bytes.insert(bytes.end(), raw.begin(), raw.end());
    return *this;
  }
  FuseRequest& data(const std::string& value) {
    const auto raw = std::as_bytes(std::span{value});
    bytes.insert(bytes.end(), raw.begin(), raw.end());
    return *this;
  }

  std::vector<std::byte> bytes;
};

/// A reply, taken apart.
struct FuseReply {
  int error = 0;
  std::vector<std::byte> body;

  template <class T>
  T as(std::size_t offset = 0) const {
    T value{};
    if (offset + sizeof value <= body.size()) std::memcpy(&value, body.data() + offset, sizeof value);
    return value;
  }
  std::string text() const { return {reinterpret_cast<const char*>(body.data()), body.size()}; }
};

}  // namespace doppel::test
