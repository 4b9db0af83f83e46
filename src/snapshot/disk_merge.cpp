#include "snapshot/disk_merge.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/system_error.h"
#include "snapshot/manifest.h"
#include "snapshot/random_id.h"
#include "snapshot/store.h"
#include "storage/open.h"
#include "storage/operations/merge.h"
#include "storage/qcow2/header.h"
#include "storage/qcow2/image.h"

namespace doppel::snapshot {
namespace {

namespace fs = std::filesystem;
using storage::qcow2::Qcow2Image;

constexpr std::string_view kMergePrefix = ".merge-";
constexpr std::size_t kLargestManifest = std::size_t{1} << 20;

/// A layer wherever it has a name.
struct Layer {
  std::string name;
  std::string below;  ///< a layer's name, or a file of the user's; empty: nothing
  std::set<std::string> holders{};
  bool active = false;  ///< a machine's, or what one would go on writing
};

/// All directories with layers, and who holds what.
struct Census {
  std::map<ino_t, Layer> layers{};
  std::map<std::string, std::map<std::string, ino_t>> directories{};
  std::set<std::string> bases{};         ///< that snapshots and running machines read without layers of their own
  std::vector<std::string> leftovers{};  ///< layers of snapshots that these no longer need
  bool complete = true;                  ///< all snapshots could be read
};

ino_t inode_of(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

std::string below_of(const std::string& path) {
  const auto file = storage::HostFile::open(path, {.read_only = true, .lock = false});
  if (!file) return {};
  const auto header = storage::qcow2::parse_header(**file);
  return header ? header->backing_file : std::string();
}

void count(const std::string& directory, bool machines, Census& census) {
  auto& names = census.directories[directory];
  std::set<std::string> below;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!is_layer_name(name)) continue;
    const ino_t inode = inode_of(entry.path().string());
    if (inode == 0) continue;
    names[name] = inode;
    Layer& layer = census.layers[inode];
    if (layer.name.empty()) {
      layer.name = name;
      layer.below = below_of(entry.path().string());
    }
    layer.holders.insert(directory);
    below.insert(layer.below);
  }
  if (!machines) return;
  for (const auto& [name, inode] : names) {
    if (!below.contains(name)) census.layers[inode].active = true;
  }
}

void count_snapshot(const std::string& directory, Census& census) {
  count(directory, false, census);
  if (fs::path(directory).filename().string().starts_with('.')) {
    // A snapshot that is being made: its base is its machine's, which counts itself.
    return;
  }
  const auto bytes = read_file(directory + "/" + file_name::kManifest, kLargestManifest);
  const auto manifest =
      bytes ? parse_manifest({reinterpret_cast<const char*>(bytes->data()), bytes->size()}) : bytes.error();
  if (!manifest) {
    census.complete = false;
    return;
  }
  std::set<std::string> reached;
  for (const Manifest::Disk& disk : manifest->disks) {
    if (!disk.base.empty()) census.bases.insert(disk.base);
    for (std::string name = disk.file; !name.empty() && reached.insert(name).second;) {
      const auto found = census.directories[directory].find(name);
      name = found == census.directories[directory].end() ? std::string() : census.layers[found->second].below;
    }
  }
  for (const auto& [name, inode] : census.directories[directory]) {
    if (!reached.contains(name)) census.leftovers.push_back(fmt::format("{}/{}", directory, name));
  }
}

Census take_census(const DiskStore& disks, const std::string& snapshots) {
  Census census;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(disks.root(), ignored)) {
    if (entry.is_directory(ignored)) count(entry.path().string(), true, census);
  }
  for (const auto& owner : fs::directory_iterator(snapshots, ignored)) {
    if (owner.path() == disks.root() || !owner.is_directory(ignored)) continue;
    std::error_code failed;
    for (const auto& entry : fs::directory_iterator(owner.path(), failed)) {
      if (entry.is_directory(failed)) count_snapshot(entry.path().string(), census);
    }
  }
  return census;
}

/// Whether two layers are only used together, and the lower one by nobody but the upper one: what a merge that was
/// interrupted has left may stand on it, too.
bool belong_together(const Census& census, ino_t above, ino_t below) {
  const auto upper = census.layers.find(above);
  const auto lower = census.layers.find(below);
  if (upper == census.layers.end() || lower == census.layers.end()) return false;
  if (upper->second.active || lower->second.active || upper->second.holders != lower->second.holders) return false;
  return std::ranges::none_of(census.layers, [&](const auto& entry) {
    return entry.first != above && entry.second.below == lower->second.name;
  });
}

/// Two layers that belong together.
struct Pair {
  ino_t upper = 0, lower = 0;
  bool operator<(const Pair& other) const { return std::tie(upper, lower) < std::tie(other.upper, other.lower); }
};

std::optional<Pair> find_pair(const Census& census, const std::set<Pair>& tried) {
  for (const auto& [inode, layer] : census.layers) {
    if (layer.active || !is_layer_name(layer.below)) continue;
    const auto& names = census.directories.at(*layer.holders.begin());
    const auto below = names.find(layer.below);
    if (below == names.end()) continue;
    const Pair pair{inode, below->second};
    if (!tried.contains(pair) && belong_together(census, pair.upper, pair.lower)) return pair;
  }
  return std::nullopt;
}

Result<void> copy_whole(storage::File& from, int source, const std::string& to) {
  const UniqueFd fd(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return system_error("cannot create " + to);
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  const std::uint64_t size = from.size();
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return system_error("cannot write " + to);
  for (std::uint64_t offset = 0; offset < size;) {
    const storage::FileExtent extent = from.extent(offset, size - offset);
    for (std::uint64_t done = 0; extent.data && done < extent.length;) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), extent.length - done));
      const ssize_t got = ::pread(source, buffer.data(), part, static_cast<off_t>(offset + done));
      if (got <= 0) return system_error("cannot read " + from.name());
      const ssize_t put =
          ::pwrite(fd.get(), buffer.data(), static_cast<std::size_t>(got), static_cast<off_t>(offset + done));
      if (put != got) return system_error("cannot write " + to);
      done += static_cast<std::uint64_t>(got);
    }
    offset += extent.length;
  }
  return {};
}

/// Writes what both layers say into a new file.
Result<void> write_merged(const std::string& directory, const Layer& upper, const Layer& lower,
                          const std::string& merged) {
  const std::string path = directory + "/" + lower.name;
  // Fails when one of them is written: a machine has not reached the instant of its snapshot yet.
  auto below = storage::HostFile::open(path, {.read_only = true});
  if (!below) return below.error();
  auto above = storage::HostFile::open(directory + "/" + upper.name, {.read_only = true});
  if (!above) return above.error();
  const UniqueFd source(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!source.valid()) return system_error("cannot open " + path);
  if (Result<void> copied = copy_whole(**below, source.get(), merged); !copied) return copied;
  std::shared_ptr<storage::Image> rest;
  if (!lower.below.empty()) {
    const Result<std::string> name = storage::resolve_backing(path, lower.below);
    if (!name) return name.error();
    const auto header = storage::qcow2::parse_header(**below);
    auto opened = storage::open_image(*name, {.format = header ? header->backing_format : std::nullopt});
    if (!opened) return opened.error();
    rest = *std::move(opened);
  }
  auto file = storage::HostFile::open(merged, {});
  if (!file) return file.error();
  auto target = Qcow2Image::open(*std::move(file), std::move(rest), {.read_only = false});
  if (!target) return target.error();
  const auto top = Qcow2Image::open(*std::move(above), *target, {.read_only = true});
  if (!top) return top.error();
  if (Result<void> done = storage::merge_into(**top, **target); !done) return done;
  return (*target)->freeze();
}

/// Gives the new file the place of both. Under the lock.
Result<void> put_in_place(const Layer& upper, const Layer& lower, const std::string& merged) {
  for (const std::string& directory : upper.holders) {
    const std::string aside = directory + "/" + std::string(kMergePrefix) + random_id();
    if (::link(merged.c_str(), aside.c_str()) != 0) return system_error("cannot link " + aside);
    if (::rename(aside.c_str(), (directory + "/" + upper.name).c_str()) != 0) {
      const Error failed = system_error("cannot write " + directory);
      ::unlink(aside.c_str());
      return failed;
    }
    if (Result<void> synced = sync_directory(directory); !synced) return synced;
    ::unlink((directory + "/" + lower.name).c_str());
  }
  return {};
}

void remove_asides(const Census& census, const DiskStore& disks) {
  std::error_code ignored;
  std::vector<std::string> directories{disks.root()};
  for (const auto& [directory, names] : census.directories) directories.push_back(directory);
  for (const std::string& directory : directories) {
    for (const auto& entry : fs::directory_iterator(directory, ignored)) {
      if (entry.path().filename().string().starts_with(kMergePrefix)) ::unlink(entry.path().c_str());
    }
  }
}

Result<void> merge_pair(const DiskStore& disks, const std::string& snapshots, const Census& census, const Pair& pair) {
  const Layer& upper = census.layers.at(pair.upper);
  const Layer& lower = census.layers.at(pair.lower);
  const std::string merged = fmt::format("{}/{}{}", disks.root(), kMergePrefix, random_id());
  Result<void> done = write_merged(*upper.holders.begin(), upper, lower, merged);
  if (done) {
    const Result<UniqueFd> alone = disks.lock(true);
    if (!alone) done = alone.error();
    // Others may have come by them in the meantime.
    const Census now = take_census(disks, snapshots);
    const bool same = belong_together(now, pair.upper, pair.lower) && now.layers.at(pair.upper).name == upper.name &&
                      now.layers.at(pair.upper).holders == upper.holders &&
                      now.layers.at(pair.lower).name == lower.name;
    if (done && same) done = put_in_place(upper, lower, merged);
  }
  ::unlink(merged.c_str());
  return done;
}

/// Brings the file under the layers of a home up to date, if they are nobody else's. Errors mean that it is in use.
Result<void> merge_home(const std::string& home, const Census& census) {
  std::error_code error;
  const std::string top = fs::read_symlink(home + "/current", error).string();
  if (error || !is_layer_name(top)) return {};
  const Result<DiskChain> chain = read_chain(home, top);
  if (!chain || chain->base.empty()) return {};
  if (census.bases.contains(chain->base)) return {};
  for (const auto& [inode, layer] : census.layers) {
    const bool ours = layer.holders == std::set<std::string>{home};
    if (layer.below == chain->base && !ours) return {};
    if (census.directories.at(home).contains(layer.name) && !ours) return {};
  }
  const auto image =
      storage::open_image(home + "/" + top, {.format = "qcow2", .read_only = false, .write_backing = chain->base});
  if (!image) return image.error();
  std::shared_ptr<storage::Image> base = *image;
  for (std::size_t i = 0; base != nullptr && i < chain->names.size(); ++i) base = base->backing();
  if (base == nullptr) return Error{home + " has another chain than its files say"};
  // From now on the file may change; what is above it shows the same meanwhile.
  ::unlink((home + "/origin").c_str());
  if (Result<void> merged = storage::merge_into(**image, *base); !merged) return merged;
  ::unlink((home + "/current").c_str());
  if (Result<void> synced = sync_directory(home); !synced) return synced;
  fs::remove_all(home, error);
  return {};
}

}  // namespace

Result<void> merge_layers(const DiskStore& disks, const std::string& snapshots) {
  std::error_code error;
  if (!fs::is_directory(disks.root(), error)) return {};
  // One at a time.
  const UniqueFd turn(::open((disks.root() + "/.merging").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!turn.valid() || ::flock(turn.get(), LOCK_EX) != 0) return system_error("cannot lock " + disks.root());
  std::set<Pair> tried;
  Census census = take_census(disks, snapshots);
  remove_asides(census, disks);
  for (const std::string& path : census.leftovers) ::unlink(path.c_str());
  if (!census.leftovers.empty()) census = take_census(disks, snapshots);
  while (const std::optional<Pair> pair = find_pair(census, tried)) {
    tried.insert(*pair);
    if (Result<void> merged = merge_pair(disks, snapshots, census, *pair); !merged) {
      log::info("snapshot", "layers stay apart: {}", merged.error().message);
    }
    census = take_census(disks, snapshots);
  }
  const Result<UniqueFd> alone = disks.lock(true);
  if (!alone) return alone.error();
  census = take_census(disks, snapshots);
  for (const auto& [directory, names] : census.directories) {
    const bool home =
        fs::path(directory).parent_path() == disks.root() && !fs::path(directory).filename().string().starts_with('.');
    if (!home || !census.complete) continue;
    if (Result<void> merged = merge_home(directory, census); !merged) {
      log::info("snapshot", "{} stays: {}", directory, merged.error().message);
    }
  }
  return {};
}

}  // namespace doppel::snapshot
