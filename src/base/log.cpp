#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <array>
#include <memory>

namespace doppel::log {
namespace {

constexpr std::array<std::pair<std::string_view, Level>, 6> kNames{{{"trace", Level::Trace},
                                                                    {"debug", Level::Debug},
                                                                    {"info", Level::Info},
                                                                    {"warning", Level::Warning},
                                                                    {"error", Level::Error},
                                                                    {"off", Level::Off}}};

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::Trace:
      return spdlog::level::trace;
    case Level::Debug:
      return spdlog::level::debug;
    case Level::Info:
      return spdlog::level::info;
    case Level::Warning:
      return spdlog::level::warn;
    case Level::Error:
      return spdlog::level::err;
    case Level::Off:
      break;
  }
  return spdlog::level::off;
}

std::shared_ptr<spdlog::logger> make_logger(spdlog::sink_ptr sink, const char* pattern, Level level) {
  auto made = std::make_shared<spdlog::logger>("doppel", std::move(sink));
  made->set_pattern(pattern);
  made->set_level(spdlog_level(level));
  made->flush_on(spdlog::level::trace);
  return made;
}

constexpr const char* kTerminalPattern = "doppel: %l: %v";
constexpr const char* kFilePattern = "%Y-%m-%dT%H:%M:%S.%f %l %v";

/// The one log of the process.
std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance =
      make_logger(std::make_shared<spdlog::sinks::stderr_sink_mt>(), kTerminalPattern, Level::Warning);
  return instance;
}

}  // namespace

Result<void> configure(Level level, const std::string& path) {
  if (path.empty()) {
    logger() = make_logger(std::make_shared<spdlog::sinks::stderr_sink_mt>(), kTerminalPattern, level);
    return {};
  }
  try {
    logger() = make_logger(std::make_shared<spdlog::sinks::basic_file_sink_mt>(path), kFilePattern, level);
  } catch (const spdlog::spdlog_ex& error) {
    return Error{fmt::format("cannot write the log to {}: {}", path, error.what())};
  }
  return {};
}

Result<Level> parse_level(std::string_view name) {
  const auto* found =
      std::find_if(kNames.begin(), kNames.end(), [&](const auto& entry) { return entry.first == name; });
  if (found != kNames.end()) return found->second;
  return Error{fmt::format("unknown log level \"{}\": use trace, debug, info, warning, error or off", name)};
}

bool enabled(Level level) {
  return level != Level::Off && logger()->should_log(spdlog_level(level));
}

void write(Level level, std::string_view room, std::string_view message) {
  logger()->log(spdlog_level(level), "{}: {}", room, message);
}

}  // namespace doppel::log
