// doppel image info, map
#include <fmt/format.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "cli/exit_status.h"
#include "cli/image_commands.h"
#include "cli/units.h"
#include "storage/open.h"
#include "storage/operations/chain_map.h"
#include "storage/qcow2/image.h"
#include "storage/qcow2/snapshots.h"

namespace doppel::cli {
namespace {

using json = nlohmann::ordered_json;
using storage::qcow2::Header;
using storage::qcow2::Qcow2Image;

std::uint64_t space_taken(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
}

Result<json> describe_qcow2(Qcow2Image& image, const std::string& path) {
  json entry;
  const Header& header = image.header();
  entry["cluster-size"] = header.cluster_size();
  json data{{"compat", header.version == 2 ? "0.10" : "1.1"},
            {"compression-type", header.compression_type == storage::qcow2::CompressionType::Zstd ? "zstd" : "zlib"}};
  if (header.version == 3) {
    data["lazy-refcounts"] = (header.compatible_features & storage::qcow2::kLazyRefcounts) != 0;
    data["refcount-bits"] = header.refcount_bits();
    data["corrupt"] = (header.incompatible_features & storage::qcow2::kCorrupt) != 0;
    data["extended-l2"] = header.extended_l2();
  } else {
    data["refcount-bits"] = 16;
  }
  entry["format-specific"] = {{"type", "qcow2"}, {"data", data}};
  entry["dirty-flag"] = (header.incompatible_features & storage::qcow2::kDirty) != 0;
  if (!header.backing_file.empty()) {
    entry["backing-filename"] = header.backing_file;
    const auto full = storage::resolve_backing(path, header.backing_file);
    if (full) entry["full-backing-filename"] = *full;
    if (header.backing_format) entry["backing-filename-format"] = *header.backing_format;
  }
  const auto snapshots = storage::qcow2::read_snapshots(image.file(), header);
  if (!snapshots) return snapshots.error();
  for (const auto& snapshot : *snapshots) {
    entry["snapshots"].push_back({{"id", snapshot.id},
                                  {"name", snapshot.name},
                                  {"vm-state-size", snapshot.vm_state_size},
                                  {"date-sec", snapshot.date_seconds},
                                  {"vm-clock-nsec", snapshot.vm_clock_ns}});
  }
  return entry;
}

Result<json> describe(storage::Image& image, const std::string& path) {
  json entry{{"virtual-size", image.size()},
             {"filename", path},
             {"format", image.format()},
             {"actual-size", space_taken(path)},
             {"dirty-flag", false}};
  if (auto* const qcow = dynamic_cast<Qcow2Image*>(&image); qcow != nullptr) {
    auto more = describe_qcow2(*qcow, path);
    if (!more) return more.error();
    entry.update(*more);
  }
  return entry;
}

void print(const json& entry) {
  const auto size = entry["virtual-size"].get<std::uint64_t>();
  fmt::print("image:         {}\n", entry["filename"].get<std::string>());
  fmt::print("format:        {}\n", entry["format"].get<std::string>());
  fmt::print("virtual size:  {} ({} bytes)\n", format_size(size), size);
  fmt::print("space taken:   {}\n", format_size(entry["actual-size"].get<std::uint64_t>()));
  if (entry.contains("cluster-size"))
    fmt::print("cluster size:  {}\n", format_size(entry["cluster-size"].get<std::uint64_t>()));
  if (entry.contains("backing-filename")) {
    const std::string name = entry["backing-filename"];
    const std::string full = entry.value("full-backing-filename", name);
    fmt::print("backing file:  {}{}\n", name, full != name ? " (" + full + ")" : "");
    fmt::print("    its format: {}\n", entry.value("backing-filename-format", "not stated"));
  }
  if (entry["dirty-flag"].get<bool>()) fmt::print("not closed cleanly; it is repaired when next opened for writing\n");
  if (entry.contains("format-specific")) {
    for (const auto& [name, value] : entry["format-specific"]["data"].items()) {
      fmt::print("    {}: {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  if (!entry.contains("snapshots")) return;
  fmt::print("snapshots:\n");
  for (const json& snapshot : entry["snapshots"]) {
    fmt::print("    {:<4} {}\n", snapshot["id"].get<std::string>(), snapshot["name"].get<std::string>());
  }
}

}  // namespace

int image_info(const ImageOptions& options) {
  json entries = json::array();
  std::string path = options.file;
  std::optional<std::string> format = if_given(options.format);
  for (;;) {
    // One by one: info works on an image whose backing file is missing.
    auto image = storage::open_image(
        path, {.format = format, .lock = !options.force_share, .with_backing = false, .for_check = true});
    if (!image) return image_failure(image.error());
    auto entry = describe(**image, path);
    if (!entry) return image_failure(entry.error());
    entries.push_back(*entry);
    if (!options.backing_chain || !entry->contains("full-backing-filename")) break;
    path = entry->at("full-backing-filename").get<std::string>();
    format = entry->contains("backing-filename-format")
                 ? std::optional(entry->at("backing-filename-format").get<std::string>())
                 : std::nullopt;
    if (entries.size() > 500) return image_failure(Error{options.file + " has too many backing files"});
  }
  if (options.wants_json()) {
    const json& shown = options.backing_chain ? entries : entries[0];
    fmt::print("{}\n", shown.dump(4, ' ', false, json::error_handler_t::replace));
    return exit_status::kSuccess;
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (i != 0) fmt::print("\n");
    print(entries[i]);
  }
  return exit_status::kSuccess;
}

int image_map(const ImageOptions& options) {
  auto image = open_operand(options.file, options, true);
  if (!image) return image_failure(image.error());
  const bool as_json = options.wants_json();
  fmt::print("{}", as_json ? "[" : fmt::format("{:<16} {:<16} {:<16} {}\n", "Offset", "Length", "Mapped to", "File"));
  bool first = true;
  const auto shown = storage::for_each_extent(**image, [&](const storage::ChainExtent& extent) -> Result<void> {
    if (!as_json) {
      if (!extent.data) return {};
      const std::string where = extent.file != nullptr ? fmt::format("{:#x}", extent.file_offset) : "compressed";
      fmt::print("{:<16} {:<16} {:<16} {}\n", fmt::format("{:#x}", extent.start), fmt::format("{:#x}", extent.length),
                 where, extent.file != nullptr ? extent.file->name() : "");
      return {};
    }
    json entry{{"start", extent.start},     {"length", extent.length}, {"depth", extent.depth},
               {"present", extent.present}, {"zero", extent.zero},     {"data", extent.data}};
    if (extent.compressed) entry["compressed"] = true;
    if (extent.file != nullptr) entry["offset"] = extent.file_offset;
    fmt::print("{}{}", first ? "" : ",\n", entry.dump());
    first = false;
    return {};
  });
  if (as_json) fmt::print("]\n");
  return shown ? exit_status::kSuccess : image_failure(shown.error());
}

}  // namespace doppel::cli
