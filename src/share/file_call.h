#pragma once

#include <algorithm>
#include <cstring>

#include "share/file_server.h"

namespace doppel::share {

template <class T>
T FileServer::Call::arguments() const {
  T value{};
  std::memcpy(&value, body.data(), std::min(body.size(), sizeof value));
  return value;
}

template <class T>
void FileServer::Call::reply(const T& value) const {
  const auto bytes = std::as_bytes(std::span{&value, 1});
  out.insert(out.end(), bytes.begin(), bytes.end());
}

inline std::string FileServer::Call::text(std::size_t offset, unsigned index) const {
  if (offset > body.size()) return {};
  std::string_view rest(reinterpret_cast<const char*>(body.data()) + offset, body.size() - offset);
  for (;; --index) {
    const std::size_t end = rest.find('\0');
    if (end == std::string_view::npos) return {};
    if (index == 0) return std::string(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
}

}  // namespace doppel::share
