#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

/// The program's own log: what the monitor does, never what the guest prints. Thread-safe.
namespace doppel::log {

enum class Level { Trace, Debug, Info, Warning, Error, Off };

/// Where lines go and from which level on; stderr and Warning until this is called. `path` empty means stderr. To be
/// called before other threads log.
Result<void> configure(Level level, const std::string& path);
/// "trace", "debug", "info", "warning", "error", "off".
Result<Level> parse_level(std::string_view name);

bool enabled(Level level);
void write(Level level, std::string_view room, std::string_view message);

template <class... Args>
void message(Level level, std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(level)) write(level, room, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void debug(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  message(Level::Debug, room, format, std::forward<Args>(args)...);
}
template <class... Args>
void info(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  message(Level::Info, room, format, std::forward<Args>(args)...);
}
template <class... Args>
void warning(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  message(Level::Warning, room, format, std::forward<Args>(args)...);
}
template <class... Args>
void error(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  message(Level::Error, room, format, std::forward<Args>(args)...);
}

}  // namespace doppel::log
