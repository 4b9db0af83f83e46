#include "snapshot/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "base/plain_name.h"
#include "memory/guest_memory.h"
#include "snapshot/checksum.h"
#include "snapshot/disk_chain.h"

namespace doppel::snapshot {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "doppel snapshot";
/// Raised when an older doppel would misread what a newer one writes: one that knows no disks, or no shared
/// directories, would leave them out.
constexpr unsigned kVersion = 3;
constexpr unsigned kVersionWithoutShares = 2;
constexpr unsigned kVersionWithoutDisks = 1;
constexpr std::size_t kMostLayers = 64;
constexpr std::uint64_t kLargestState = std::uint64_t{256} << 20;

std::uint32_t checksum(const std::string& text) {
  return crc32c(std::as_bytes(std::span{text}));
}

std::string format_mac(const std::array<std::uint8_t, 6>& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

json file_to_json(const Manifest::File& file) {
  return {{"bytes", file.bytes}, {"crc32c", file.checksum}};
}

/// Reads members, and remembers the first that is not there or not what it should be.
class Reader {
 public:
  explicit Reader(const json& object) : object_(object) {
    if (!object.is_object()) fail("an object");
  }

  bool good() const { return problem_.empty(); }
  const std::string& problem() const { return problem_; }
  void fail(const std::string& what) {
    if (problem_.empty()) problem_ = what;
  }

  bool has(const char* name) const { return object_.is_object() && object_.contains(name); }
  const json& member(const char* name) {
    static const json kNothing;
    if (!object_.is_object() || !object_.contains(name)) {
      fail(fmt::format("\"{}\" is missing", name));
      return kNothing;
    }
    return object_[name];
  }
  std::string text(const char* name) {
    const json& value = member(name);
    if (value.is_string()) return value.get<std::string>();
    fail(fmt::format("\"{}\" is no text", name));
    return {};
  }
  std::uint64_t number(const char* name, std::uint64_t largest) {
    const json& value = member(name);
    if (value.is_number_unsigned() && value.get<std::uint64_t>() <= largest) return value.get<std::uint64_t>();
    fail(fmt::format("\"{}\" is no possible number", name));
    return 0;
  }
  bool flag(const char* name) {
    const json& value = member(name);
    if (value.is_boolean()) return value.get<bool>();
    fail(fmt::format("\"{}\" is neither true nor false", name));
    return false;
  }
  void texts(std::initializer_list<std::pair<const char*, std::string*>> members) {
    for (const auto& [name, value] : members) *value = text(name);
  }
  void flags(std::initializer_list<std::pair<const char*, bool*>> members) {
    for (const auto& [name, value] : members) *value = flag(name);
  }
  const json& list(const char* name) {
    static const json kEmpty = json::array();
    const json& value = member(name);
    if (value.is_array()) return value;
    fail(fmt::format("\"{}\" is no list", name));
    return kEmpty;
  }
  std::vector<std::string> texts(const char* name) {
    std::vector<std::string> result;
    for (const json& value : list(name)) {
      if (!value.is_string()) {
        fail(fmt::format("\"{}\" has more in it than texts", name));
        break;
      }
      result.push_back(value.get<std::string>());
    }
    return result;
  }
  Manifest::File file(const char* name, std::uint64_t largest) { return file_of(member(name), name, largest); }
  Manifest::File file_of(const json& value, const char* name, std::uint64_t largest) {
    Reader reader(value);
    const Manifest::File file{reader.number("bytes", largest),
                              static_cast<std::uint32_t>(reader.number("crc32c", UINT32_MAX))};
    if (!reader.good()) fail(fmt::format("{}: {}", name, reader.problem()));
    return file;
  }

 private:
  const json& object_;
  std::string problem_;
};

Manifest::Network read_network(const json& value, Reader& parent) {
  Reader reader(value);
  Manifest::Network network;
  network.kind = reader.text("kind");
  if (network.kind != "user" && network.kind != "tap") reader.fail("a network is neither user nor tap");
  network.restricted = reader.flag("restricted");
  network.published = reader.texts("published");
  network.interface = reader.text("interface");
  const json& mac = reader.list("mac");
  if (mac.size() != network.mac.size()) reader.fail("a MAC address has six bytes");
  for (std::size_t i = 0; reader.good() && i < network.mac.size(); ++i) {
    if (!mac[i].is_number_unsigned() || mac[i].get<std::uint64_t>() > 0xFF) {
      reader.fail("a MAC address has bytes");
      break;
    }
    network.mac[i] = mac[i].get<std::uint8_t>();
  }
  if (!reader.good()) parent.fail(reader.problem());
  return network;
}

Manifest::Disk read_disk(const json& value, Reader& parent) {
  Reader reader(value);
  Manifest::Disk disk;
  reader.texts({{"serial", &disk.serial},
                {"file", &disk.file},
                {"format", &disk.format},
                {"base", &disk.base},
                {"origin", &disk.origin}});
  reader.flags({{"read_only", &disk.read_only}, {"discard", &disk.discard}, {"direct", &disk.direct}});
  disk.base_mark = {reader.number("base_bytes", UINT64_MAX),
                    static_cast<std::int64_t>(reader.number("base_changed", INT64_MAX))};
  if (disk.format != "raw" && disk.format != "qcow2") reader.fail("a disk is neither raw nor qcow2");
  if (!disk.file.empty() && !is_layer_name(disk.file)) reader.fail("a disk's file is outside");
  if (disk.file.empty() && disk.base.empty()) reader.fail("a disk has no file");
  for (const std::string* path : {&disk.base, &disk.origin}) {
    if (!path->empty() && !path->starts_with('/')) reader.fail("a disk's file has no absolute name");
  }
  if (!reader.good()) parent.fail(reader.problem());
  return disk;
}

json disks_to_json(const std::vector<Manifest::Disk>& disks) {
  json result = json::array();
  for (const Manifest::Disk& disk : disks) {
    result.push_back({{"serial", disk.serial},
                      {"read_only", disk.read_only},
                      {"discard", disk.discard},
                      {"direct", disk.direct},
                      {"file", disk.file},
                      {"format", disk.format},
                      {"base", disk.base},
                      {"base_bytes", disk.base_mark.bytes},
                      {"base_changed", disk.base_mark.changed},
                      {"origin", disk.origin}});
  }
  return result;
}

Manifest::Share read_share(const json& value, Reader& parent) {
  Reader reader(value);
  Manifest::Share share;
  reader.texts({{"tag", &share.tag}, {"path", &share.path}, {"guest_path", &share.guest_path}});
  reader.flags({{"read_only", &share.read_only}});
  if (!share.path.empty() && !share.path.starts_with('/')) reader.fail("a shared directory has no absolute name");
  if (!reader.good()) parent.fail(reader.problem());
  return share;
}

json to_json(const Manifest& manifest) {
  json networks = json::array();
  for (const Manifest::Network& network : manifest.networks) {
    networks.push_back({{"kind", network.kind},
                        {"restricted", network.restricted},
                        {"mac", network.mac},
                        {"address", format_mac(network.mac)},
                        {"published", network.published},
                        {"interface", network.interface}});
  }
  json layers = json::array();
  for (const Manifest::File& layer : manifest.layers) layers.push_back(file_to_json(layer));
  json body{{"machine", manifest.machine},
            {"tag", manifest.tag},
            {"id", manifest.id},
            {"ancestors", manifest.ancestors},
            {"created", manifest.created},
            {"doppel", manifest.version},
            {"cpus", manifest.cpus},
            {"memory_bytes", manifest.memory_bytes},
            {"balloon", manifest.balloon},
            {"vsock", manifest.vsock},
            {"no_reboot", manifest.no_reboot},
            {"kernel", manifest.kernel},
            {"initrds", manifest.initrds},
            {"command_line", manifest.command_line},
            {"networks", std::move(networks)},
            {"clock", file_to_json(manifest.clock)},
            {"components", file_to_json(manifest.components)},
            {"layers", std::move(layers)},
            {"stored_bytes", manifest.stored_bytes}};
  if (!manifest.disks.empty()) body["disks"] = disks_to_json(manifest.disks);
  for (const Manifest::Share& share : manifest.shares) {
    body["shares"].push_back(
        {{"tag", share.tag}, {"path", share.path}, {"guest_path", share.guest_path}, {"read_only", share.read_only}});
  }
  if (manifest.console) body["console"] = true;
  return body;
}

Manifest from_json(Reader& reader) {
  constexpr std::uint64_t kMostCpus = 4096;
  constexpr std::uint64_t kMostMemory = std::uint64_t{1} << 46;
  Manifest manifest;
  reader.texts({{"machine", &manifest.machine},
                {"tag", &manifest.tag},
                {"id", &manifest.id},
                {"doppel", &manifest.version},
                {"kernel", &manifest.kernel},
                {"command_line", &manifest.command_line}});
  manifest.ancestors = reader.texts("ancestors");
  if (!is_plain_name(manifest.machine) || !is_plain_name(manifest.tag) || !is_plain_name(manifest.id))
    reader.fail("it has no proper name");
  if (!std::ranges::all_of(manifest.ancestors, is_plain_name)) reader.fail("an ancestor has no proper name");
  manifest.created = static_cast<std::int64_t>(reader.number("created", INT64_MAX));
  manifest.cpus = static_cast<unsigned>(reader.number("cpus", kMostCpus));
  manifest.memory_bytes = reader.number("memory_bytes", kMostMemory);
  if (manifest.memory_bytes % memory::kPageSize != 0) reader.fail("its memory is no whole number of pages");
  reader.flags({{"balloon", &manifest.balloon}, {"vsock", &manifest.vsock}, {"no_reboot", &manifest.no_reboot}});
  if (reader.has("console")) reader.flags({{"console", &manifest.console}});
  manifest.initrds = reader.texts("initrds");
  for (const json& network : reader.list("networks")) manifest.networks.push_back(read_network(network, reader));
  if (reader.has("disks")) {
    for (const json& disk : reader.list("disks")) manifest.disks.push_back(read_disk(disk, reader));
  }
  if (reader.has("shares")) {
    for (const json& share : reader.list("shares")) manifest.shares.push_back(read_share(share, reader));
  }
  manifest.clock = reader.file("clock", kLargestState);
  manifest.components = reader.file("components", kLargestState);
  for (const json& layer : reader.list("layers")) {
    manifest.layers.push_back(reader.file_of(layer, "layers", manifest.memory_bytes));
  }
  if (manifest.layers.empty() || manifest.layers.size() > kMostLayers) reader.fail("it has no possible layers of RAM");
  manifest.stored_bytes = reader.number("stored_bytes", UINT64_MAX);
  return manifest;
}

}  // namespace

std::string format_manifest(const Manifest& manifest) {
  const json body = to_json(manifest);
  const unsigned with_disks = manifest.disks.empty() ? kVersionWithoutDisks : kVersionWithoutShares;
  const unsigned format = manifest.shares.empty() ? with_disks : kVersion;
  const json document{{"format", kFormat}, {"version", format}, {"crc32c", checksum(body.dump())}, {"snapshot", body}};
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<Manifest> parse_manifest(std::string_view text) {
  const auto shallow = [](int depth, json::parse_event_t, json&) { return depth <= 8; };
  const json document = json::parse(text, shallow, /*allow_exceptions=*/false);
  Reader outer(document);
  if (!document.is_object() || !document.contains("format") || document["format"] != kFormat) {
    return Error{"this is no snapshot of doppel's"};
  }
  const std::uint64_t version = outer.number("version", UINT32_MAX);
  if (outer.good() && version > kVersion) {
    return Error{
        fmt::format("the snapshot has format {}, and this doppel knows 1 to {}: use a newer one", version, kVersion)};
  }
  const std::uint64_t expected = outer.number("crc32c", UINT32_MAX);
  const json& body = outer.member("snapshot");
  if (outer.good() && checksum(body.dump(-1, ' ', false, json::error_handler_t::replace)) != expected) {
    outer.fail("its checksum is another");
  }
  if (!outer.good()) return Error{"the snapshot's manifest is damaged: " + outer.problem()};
  Reader reader(body);
  Manifest manifest = from_json(reader);
  if (!reader.good()) return Error{"the snapshot's manifest is damaged: " + reader.problem()};
  return manifest;
}

std::string format_disks(const std::vector<Manifest::Disk>& disks) {
  return disks_to_json(disks).dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<std::vector<Manifest::Disk>> parse_disks(std::string_view text) {
  const json list = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return Error{"this is no list of disks"};
  const json none = json::object();
  Reader reader(none);
  std::vector<Manifest::Disk> disks;
  for (const json& disk : list) disks.push_back(read_disk(disk, reader));
  if (!reader.good()) return Error{"the list of disks is damaged: " + reader.problem()};
  return disks;
}

}  // namespace doppel::snapshot
