#include "snapshot/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/plain_name.h"
#include "base/state_directory.h"
#include "base/system_error.h"
#include "snapshot/checksum.h"
#include "snapshot/disk_merge.h"
#include "snapshot/packed_layer.h"
#include "snapshot/ram_layers.h"

namespace doppel::snapshot {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDraftPrefix = ".draft-";
constexpr std::string_view kTrashPrefix = ".trash-";
constexpr std::size_t kLargestManifest = std::size_t{1} << 20;

Result<UniqueFd> create_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return system_error("cannot create " + path);
  return fd;
}

Result<std::vector<std::byte>> read_checked(const std::string& path, const Manifest::File& file) {
  Result<std::vector<std::byte>> bytes = read_file(path, file.bytes);
  if (!bytes) return bytes.error();
  if (bytes->size() != file.bytes || crc32c(*bytes) != file.checksum) return Error{path + " is damaged"};
  return bytes;
}

Error no_such(std::string_view machine, std::string_view tag) {
  return Error{
      fmt::format("there is no snapshot {}:{}; doppel snapshot list shows those that there are", machine, tag)};
}

}  // namespace

std::string file_name::ram(std::size_t layer) {
  return fmt::format("ram.{}", layer);
}
std::string file_name::sums(std::size_t layer) {
  return fmt::format("sums.{}", layer);
}

Draft::~Draft() {
  std::error_code ignored;
  if (lock_.valid()) fs::remove_all(directory_, ignored);
}

Result<Reference> Reference::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  Reference reference{std::string(text.substr(0, colon)),
                      colon == std::string_view::npos ? std::string() : std::string(text.substr(colon + 1))};
  if (is_plain_name(reference.machine) && (colon == std::string_view::npos || is_plain_name(reference.tag))) {
    return reference;
  }
  return Error{fmt::format("\"{}\" names no snapshot: write MACHINE or MACHINE:TAG", text)};
}

Result<Store> Store::of_user() {
  const Result<std::string> state = state_directory();
  if (!state) return state.error();
  return Store(*state + "/snapshots");
}

std::string Store::directory(std::string_view machine, std::string_view tag) const {
  return fmt::format("{}/{}/{}", root_, machine, tag);
}

Result<std::vector<Manifest>> Store::list(std::string_view machine) const {
  std::vector<Manifest> found;
  std::error_code error;
  for (const auto& owner : fs::directory_iterator(root_, error)) {
    const std::string name = owner.path().filename().string();
    if (!is_plain_name(name) || (!machine.empty() && name != machine)) continue;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(owner.path(), ignored)) {
      const std::string tag = entry.path().filename().string();
      if (!is_plain_name(tag)) continue;
      if (Result<Manifest> manifest = find({name, tag})) found.push_back(*std::move(manifest));
    }
  }
  std::ranges::sort(found, [](const Manifest& left, const Manifest& right) {
    return std::tie(left.machine, left.created, left.tag) < std::tie(right.machine, right.created, right.tag);
  });
  return found;
}

Result<Manifest> Store::find(const Reference& reference) const {
  if (reference.tag.empty()) {
    Result<std::vector<Manifest>> all = list(reference.machine);
    if (!all) return all.error();
    if (all->empty()) return Error{fmt::format("there is no snapshot of a machine named {}", reference.machine)};
    return std::move(all->back());
  }
  const std::string path = directory(reference.machine, reference.tag);
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return no_such(reference.machine, reference.tag);
  const Result<std::vector<std::byte>> bytes = read_file(path + "/" + file_name::kManifest, kLargestManifest);
  if (!bytes) return bytes.error();
  Result<Manifest> manifest = parse_manifest({reinterpret_cast<const char*>(bytes->data()), bytes->size()});
  if (!manifest) return Error{path + ": " + manifest.error().message};
  // The directories are what counts: one may have been renamed.
  manifest->machine = reference.machine;
  manifest->tag = reference.tag;
  struct stat packed {};
  const std::string own = path + "/" + file_name::ram(manifest->layers.size() - 1);
  if (::stat(packed_name(own).c_str(), &packed) == 0) {
    manifest->stored_bytes = static_cast<std::uint64_t>(packed.st_size);
  }
  return manifest;
}

/// Removes what those have left behind who died while they wrote or removed a snapshot.
void Store::remove_leftovers(const std::string& directory) const {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kDraftPrefix) && !name.starts_with(kTrashPrefix)) continue;
    const UniqueFd fd(::open(entry.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid() || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) continue;
    std::error_code failed;
    fs::remove_all(entry.path(), failed);
  }
}

Result<std::size_t> Store::link_layers(const Parent& parent, const std::string& into) const {
  const Result<Manifest> below = find({parent.machine, parent.tag});
  if (!below || below->id != parent.id) return std::size_t{0};
  const std::string from = directory(parent.machine, parent.tag);
  for (std::size_t layer = 0; layer < below->layers.size(); ++layer) {
    for (const std::string& name : {file_name::ram(layer), file_name::sums(layer)}) {
      const std::string path = fmt::format("{}/{}", from, name);
      const std::string linked = fmt::format("{}/{}", into, name);
      if (::link(path.c_str(), linked.c_str()) == 0) continue;
      if (errno == ENOENT && ::link(packed_name(path).c_str(), packed_name(linked).c_str()) == 0) continue;
      return system_error("cannot link " + path);
    }
  }
  return below->layers.size();
}

Result<Draft> Store::begin(std::string_view machine, std::string_view tag, const std::optional<Parent>& parent) const {
  if (!is_plain_name(machine) || !is_plain_name(tag)) {
    return Error{
        fmt::format("\"{}\" cannot be a snapshot's name: use up to {} letters, digits, '-', '_' and '.', "
                    "beginning with a letter or digit",
                    tag, kMaxPlainName)};
  }
  const std::string owner = fmt::format("{}/{}", root_, machine);
  std::error_code error;
  fs::create_directories(owner, error);
  if (error) return Error{fmt::format("cannot create {}: {}", owner, error.message())};
  fs::permissions(root_, fs::perms::owner_all, error);
  remove_leftovers(owner);
  Draft draft;
  draft.final_ = directory(machine, tag);
  if (fs::exists(draft.final_, error)) {
    return Error{fmt::format("there is a snapshot {}:{} already: choose another tag, or delete it", machine, tag)};
  }
  std::string pattern = fmt::format("{}/{}XXXXXX", owner, kDraftPrefix);
  if (::mkdtemp(pattern.data()) == nullptr) return system_error("cannot create a directory in " + owner);
  draft.directory_ = pattern;
  draft.lock_ = UniqueFd(::open(pattern.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!draft.lock_.valid() || ::flock(draft.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return system_error("cannot lock " + pattern);
  }

  if (parent) {
    const Result<std::size_t> linked = link_layers(*parent, draft.directory_);
    if (!linked) return linked.error();
    draft.layers_below = *linked;
  }
  const std::pair<std::string, UniqueFd*> files[] = {{file_name::kManifest, &draft.manifest},
                                                     {file_name::kClock, &draft.clock},
                                                     {file_name::kComponents, &draft.components},
                                                     {file_name::ram(draft.layers_below), &draft.ram},
                                                     {file_name::sums(draft.layers_below), &draft.sums}};
  for (const auto& [name, fd] : files) {
    Result<UniqueFd> created = create_file(fmt::format("{}/{}", pattern, name));
    if (!created) return created.error();
    *fd = *std::move(created);
  }
  return draft;
}

Result<void> Store::commit(Draft& draft) const {
  for (const UniqueFd* fd : {&draft.manifest, &draft.clock, &draft.components, &draft.ram, &draft.sums}) {
    if (::fsync(fd->get()) != 0) return system_error("cannot write the snapshot's files");
  }
  if (Result<void> synced = sync_directory(draft.directory_); !synced) return synced;
  // Fails where there is such a snapshot by now: a directory only replaces an empty one.
  if (::rename(draft.directory_.c_str(), draft.final_.c_str()) != 0) {
    return system_error("cannot put the snapshot at " + draft.final_);
  }
  draft.lock_.reset();
  return sync_directory(fs::path(draft.final_).parent_path().string());
}

Result<void> Store::remove(std::string_view machine, std::string_view tag) const {
  const std::string path = directory(machine, tag);
  std::error_code error;
  if (!is_plain_name(machine) || !is_plain_name(tag) || !fs::is_directory(path, error)) return no_such(machine, tag);
  std::string owner = fmt::format("{}/{}", root_, machine);
  std::string trash = fmt::format("{}/{}XXXXXX", owner, kTrashPrefix);
  if (::mkdtemp(trash.data()) == nullptr) return system_error("cannot create a directory in " + owner);
  // From one instant to the next it is no snapshot any more; the rest may take its time.
  if (::rename(path.c_str(), trash.c_str()) != 0) {
    const Error failed = system_error("cannot remove " + path);
    ::rmdir(trash.c_str());
    return failed;
  }
  remove_leftovers(owner);
  ::rmdir(owner.c_str());  // when that was the last
  return merge_layers(disks(), root_);
}

Result<void> Store::pack(const Manifest& manifest, const std::function<void(double)>& progress) const {
  const std::size_t own = manifest.layers.size() - 1;
  const std::string path = directory(manifest.machine, manifest.tag) + "/" + file_name::ram(own);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || status.st_nlink != 1) return {};
  const Result<std::vector<std::byte>> sums =
      read_checked(directory(manifest.machine, manifest.tag) + "/" + file_name::sums(own), manifest.layers[own]);
  return sums ? pack_layer(path, *sums, manifest.memory_bytes, progress) : sums.error();
}

Result<void> Store::unpack(const Manifest& manifest) const {
  for (std::size_t layer = 0; layer < manifest.layers.size(); ++layer) {
    const std::string path = directory(manifest.machine, manifest.tag) + "/" + file_name::ram(layer);
    if (Result<void> unpacked = unpack_layer(path, manifest.memory_bytes); !unpacked) return unpacked;
  }
  return {};
}

Result<std::shared_ptr<machine::SavedMachine>> Store::open(const Manifest& manifest) const {
  const std::string path = directory(manifest.machine, manifest.tag) + "/";
  if (Result<void> there = check_disks(manifest, directory(manifest.machine, manifest.tag)); !there) {
    return there.error();
  }
  if (Result<void> unpacked = unpack(manifest); !unpacked) return unpacked.error();
  auto saved = std::make_shared<machine::SavedMachine>();
  Result<std::vector<std::byte>> clock = read_checked(path + file_name::kClock, manifest.clock);
  if (!clock) return clock.error();
  saved->state.clock = *std::move(clock);
  Result<std::vector<std::byte>> components = read_checked(path + file_name::kComponents, manifest.components);
  if (!components) return components.error();
  saved->state.components = *std::move(components);
  for (std::size_t layer = 0; layer < manifest.layers.size(); ++layer) {
    Result<UniqueFd> ram = open_for_reading(path + file_name::ram(layer));
    if (!ram) return ram.error();
    struct stat status {};
    if (::fstat(ram->get(), &status) != 0 || static_cast<std::uint64_t>(status.st_size) != manifest.memory_bytes) {
      return Error{path + file_name::ram(layer) + " is damaged: it has another size than the machine's memory"};
    }
    const auto file = std::make_shared<const UniqueFd>(*std::move(ram));
    if (layer == 0) {
      saved->ram.push_back({file, 0, 0, manifest.memory_bytes});
      continue;
    }
    const Result<std::vector<std::byte>> sums = read_checked(path + file_name::sums(layer), manifest.layers[layer]);
    if (!sums) return sums.error();
    add_pieces(file, *sums, manifest.memory_bytes, saved->ram);
  }
  return saved;
}

Result<std::vector<OpenLayer>> Store::open_layers(const Manifest& manifest) const {
  const std::string path = directory(manifest.machine, manifest.tag) + "/";
  std::vector<OpenLayer> layers;
  if (Result<void> unpacked = unpack(manifest); !unpacked) return unpacked.error();
  for (std::size_t layer = 0; layer < manifest.layers.size(); ++layer) {
    Result<std::vector<std::byte>> sums = read_checked(path + file_name::sums(layer), manifest.layers[layer]);
    if (!sums) return sums.error();
    Result<UniqueFd> ram = open_for_reading(path + file_name::ram(layer));
    if (!ram) return ram.error();
    layers.push_back({std::make_shared<const UniqueFd>(*std::move(ram)), *std::move(sums)});
  }
  return layers;
}

Result<void> Store::verify(const Manifest& manifest, const std::function<void(double)>& progress) const {
  if (const auto opened = open(manifest); !opened) return opened.error();
  const Result<std::vector<OpenLayer>> layers = open_layers(manifest);
  if (!layers) return layers.error();
  const std::string path = directory(manifest.machine, manifest.tag) + "/";
  for (std::size_t layer = 0; layer < layers->size(); ++layer) {
    const auto layer_progress = [&](double part) {
      if (progress) progress((static_cast<double>(layer) + part) / static_cast<double>(layers->size()));
    };
    const Result<void> good =
        verify_layer((*layers)[layer].ram->get(), (*layers)[layer].sums, manifest.memory_bytes, layer_progress);
    if (!good) return Error{path + file_name::ram(layer) + ": " + good.error().message};
  }
  return {};
}

}  // namespace doppel::snapshot
