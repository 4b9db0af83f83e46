#include "cli/run_disk.h"

#include <fmt/format.h>

#include "cli/option_list.h"

namespace doppel::cli {
namespace {

constexpr std::size_t kLongestSerial = 20;

Result<bool> parse_switch(const std::string& key, const std::string& value) {
  if (value == "on" || value.empty()) return true;
  if (value == "off") return false;
  return Error{fmt::format("{}={} is neither on nor off", key, value)};
}

Result<void> apply(const std::string& key, const std::string& value, machine::DiskConfig& disk) {
  if (key == "format") {
    if (value != "raw" && value != "qcow2") return Error{fmt::format("format {} is neither raw nor qcow2", value)};
    disk.options.format = value;
    return {};
  }
  if (key == "readonly") {
    const Result<bool> on = parse_switch(key, value);
    if (!on) return on.error();
    disk.options.read_only = *on;
    return {};
  }
  if (key == "snapshot") {
    const Result<bool> on = parse_switch(key, value);
    if (!on) return on.error();
    disk.snapshot = *on;
    return {};
  }
  if (key == "discard") {
    const Result<bool> on = parse_switch(key, value);
    if (!on) return on.error();
    disk.options.discard = *on;
    return {};
  }
  if (key == "serial") {
    if (value.empty() || value.size() > kLongestSerial) {
      return Error{fmt::format("a serial number has 1 to {} characters", kLongestSerial)};
    }
    disk.serial = value;
    return {};
  }
  if (key == "cache") {
    if (value != "writeback" && value != "none")
      return Error{fmt::format("cache {} is neither writeback nor none", value)};
    disk.options.cache = value == "none" ? storage::CacheMode::None : storage::CacheMode::Writeback;
    return {};
  }
  return Error{fmt::format("unknown option {}: there are format, readonly, snapshot, serial, cache, discard", key)};
}

}  // namespace

Result<machine::DiskConfig> parse_disk(const std::string& text) {
  const OptionList list = OptionList::parse(text);
  if (list.first.empty()) return Error{fmt::format("--disk {}: name an image file first", text)};
  machine::DiskConfig disk;
  disk.path = list.first;
  for (const auto& [key, value] : list.rest) {
    if (const Result<void> applied = apply(key, value, disk); !applied) {
      return Error{fmt::format("--disk {}: {}", text, applied.error().message)};
    }
  }
  return disk;
}

}  // namespace doppel::cli
