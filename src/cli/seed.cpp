#include "cli/seed.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/fd.h"
#include "base/system_error.h"

namespace doppel::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestFile = std::size_t{16} << 20;
constexpr const char* kLabel = "cidata";
/// For our own images without cloud-init, which cannot read the other files: guest/debian/customize.
constexpr const char* kKeysFile = "authorized_keys";

Result<std::string> read_text(const char* option, const std::string& path) {
  const Result<std::vector<std::byte>> bytes = read_file(path, kLongestFile);
  if (!bytes) return Error{fmt::format("{}: {}", option, bytes.error().message)};
  return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

/// One key a line, as in authorized_keys.
Result<json> read_keys(const std::vector<std::string>& paths) {
  json keys = json::array();
  for (const std::string& path : paths) {
    const Result<std::string> text = read_text("--ssh-key", path);
    if (!text) return text.error();
    if (text->find("PRIVATE KEY") != std::string::npos) {
      return Error{
          fmt::format("--ssh-key {}: that is the private key; the guest gets the public one, {}.pub", path, path)};
    }
    for (std::size_t at = 0; at < text->size();) {
      const std::size_t end = std::min(text->find('\n', at), text->size());
      const std::string line = text->substr(at, end - at);
      if (!line.empty() && line.front() != '#') keys.push_back(line);
      at = end + 1;
    }
  }
  return keys;
}

std::string authorized_keys(const json& keys) {
  std::string text;
  for (const json& key : keys) text += key.get<std::string>() + "\n";
  return text;
}

/// cloud-init does its work once for each instance, known by this.
std::string instance_of(const std::string& text) {
  std::uint64_t hash = 0xCBF2'9CE4'8422'2325;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01B3;
  return fmt::format("doppel-{:016x}", hash);
}

Result<void> check_host_name(const std::string& name) {
  const bool plain =
      std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '.'; });
  if (plain && name.size() <= 64 && name.front() != '-' && name.front() != '.') return {};
  return Error{fmt::format("--hostname {}: use letters, digits, '-' and '.', at most 64", name)};
}

}  // namespace

Result<std::optional<machine::DiskConfig>> make_seed(const RunOptions& options) {
  if (options.user_data.empty() && options.ssh_keys.empty() && options.hostname.empty()) {
    return std::optional<machine::DiskConfig>();
  }
  std::string user_data = "#cloud-config\n{}\n";
  if (!options.user_data.empty()) {
    Result<std::string> text = read_text("--user-data", options.user_data);
    if (!text) return text.error();
    user_data = *std::move(text);
  }
  const Result<json> keys = read_keys(options.ssh_keys);
  if (!keys) return keys.error();
  json meta_data{{"public-keys", *keys}};
  if (!options.hostname.empty()) {
    if (const auto good = check_host_name(options.hostname); !good) return good.error();
    meta_data["local-hostname"] = options.hostname;
  }
  std::string dumped;
  try {
    meta_data["instance-id"] = instance_of(meta_data.dump() + user_data);
    dumped = meta_data.dump();
  } catch (const json::exception&) {
    return Error{"--ssh-key: a key is not text"};
  }
  // JSON is YAML.
  std::vector<std::pair<std::string, std::string>> files{{"meta-data", dumped + "\n"}, {"user-data", user_data}};
  if (!keys->empty()) files.emplace_back(kKeysFile, authorized_keys(*keys));
  const std::vector<std::byte> image = make_iso_image(kLabel, files);
  UniqueFd file(::memfd_create("doppel-seed", MFD_CLOEXEC));
  if (!file.valid()) return system_error("cannot make the disk for cloud-init");
  if (const auto written = write_all(file.get(), image); !written) return written.error();
  machine::DiskConfig disk;
  disk.path = fmt::format("/proc/self/fd/{}", file.get());
  disk.file = std::make_shared<UniqueFd>(std::move(file));
  disk.serial = kLabel;
  disk.options.format = "raw";
  disk.options.read_only = true;
  return std::optional<machine::DiskConfig>(std::move(disk));
}

}  // namespace doppel::cli
