#include "snapshot/disk_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/system_error.h"
#include "snapshot/random_id.h"
#include "storage/open.h"

namespace doppel::snapshot {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kRunPrefix = ".run-";
constexpr const char* kCurrent = "current";
constexpr const char* kOrigin = "origin";
constexpr std::size_t kLargestOrigin = 1 << 16;

std::string canonical(const std::string& path) {
  std::error_code error;
  const fs::path result = fs::weakly_canonical(path, error);
  return error ? path : result.string();
}

Result<void> make_directory(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return Error{fmt::format("cannot create {}: {}", path, error.message())};
  return {};
}

/// The name that a home's `current` leads to; empty: there is none.
std::string read_current(const std::string& home) {
  std::error_code error;
  const std::string name = fs::read_symlink(home + "/" + kCurrent, error).string();
  return error || !is_layer_name(name) ? std::string() : name;
}

Result<void> set_current(const std::string& home, const std::string& name) {
  const std::string aside = home + "/." + random_id();
  if (::symlink(name.c_str(), aside.c_str()) != 0 || ::rename(aside.c_str(), (home + "/" + kCurrent).c_str()) != 0) {
    return system_error("cannot write " + home);
  }
  return sync_directory(home);
}

/// What the user's file was like when layers came over it.
Result<void> write_origin(const std::string& home, const std::string& path, const Manifest::FileMark& mark) {
  const std::string text = json{{"path", path}, {"bytes", mark.bytes}, {"changed", mark.changed}}.dump() + "\n";
  const std::string aside = home + "/." + random_id();
  const UniqueFd fd(::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return system_error("cannot create " + aside);
  if (Result<void> written = write_all(fd.get(), std::as_bytes(std::span{text})); !written) return written;
  if (::fsync(fd.get()) != 0 || ::rename(aside.c_str(), (home + "/" + kOrigin).c_str()) != 0) {
    return system_error("cannot write " + home);
  }
  return {};
}

Result<void> check_mark(const std::string& path, const Manifest::FileMark& expected, const std::string& who) {
  const Result<Manifest::FileMark> mark = mark_of(path);
  if (!mark) return Error{fmt::format("{} stands on the disk {}: {}", who, path, mark.error().message)};
  if (expected.changed != 0 && *mark != expected) {
    return Error{fmt::format("{} stands on the disk {}, which has been written by something else since", who, path)};
  }
  return {};
}

/// Whether a home still fits the file that it is over.
Result<void> check_origin(const std::string& home, const std::string& path) {
  const Result<std::vector<std::byte>> bytes = read_file(home + "/" + kOrigin, kLargestOrigin);
  if (!bytes) return {};  // nothing was frozen yet
  const json origin = json::parse(reinterpret_cast<const char*>(bytes->data()),
                                  reinterpret_cast<const char*>(bytes->data()) + bytes->size(), nullptr, false);
  if (!origin.is_object()) return Error{home + "/" + kOrigin + " is damaged"};
  const Manifest::FileMark mark{origin.value("bytes", std::uint64_t{0}), origin.value("changed", std::int64_t{0})};
  return check_mark(path, mark, "what was written after a snapshot, in " + home + ",");
}

void remove_unreachable(const std::string& home, const std::vector<std::string>& wanted) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(home, ignored)) {
    const std::string name = entry.path().filename().string();
    if (is_layer_name(name) && std::ranges::find(wanted, name) == wanted.end()) ::unlink(entry.path().c_str());
  }
}

Result<void> copy_file(int from, const std::string& to) {
  const UniqueFd fd(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return system_error("cannot create " + to);
  std::vector<std::byte> buffer(std::size_t{1} << 18);
  for (off_t offset = 0;;) {
    const ssize_t got = ::pread(from, buffer.data(), buffer.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read a disk");
    if (got == 0) return {};
    const auto part = std::span(buffer).first(static_cast<std::size_t>(got));
    if (Result<void> written = write_all(fd.get(), part); !written) return written;
    offset += got;
  }
}

}  // namespace

PreparedDisks::PreparedDisks(PreparedDisks&& other) noexcept
    : places(std::move(other.places)),
      run_directory_(std::move(other.run_directory_)),
      run_lock_(std::move(other.run_lock_)),
      reading_(std::move(other.reading_)),
      owned_(std::exchange(other.owned_, false)) {}

PreparedDisks::~PreparedDisks() {
  std::error_code ignored;
  if (owned_) fs::remove_all(run_directory_, ignored);
}

std::string DiskStore::home_of(const std::string& path) const {
  // FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv
  std::uint64_t hash = 0xCBF2'9CE4'8422'2325;
  for (const char c : canonical(path)) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100'0000'01B3;
  return fmt::format("{}/{:016x}", root_, hash);
}

std::string DiskStore::current_of(const std::string& path) const {
  const std::string home = home_of(path);
  const std::string name = read_current(home);
  return name.empty() ? std::string() : home + "/" + name;
}

void DiskStore::forget(const std::string& path) const {
  std::error_code ignored;
  fs::remove_all(home_of(path), ignored);
}

Result<UniqueFd> DiskStore::lock(bool exclusive) const {
  if (Result<void> made = make_directory(root_); !made) return made.error();
  UniqueFd fd(::open((root_ + "/.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return system_error("cannot open " + root_ + "/.lock");
  int locked = 0;
  do {
    locked = ::flock(fd.get(), exclusive ? LOCK_EX : LOCK_SH);
  } while (locked != 0 && errno == EINTR);
  if (locked != 0) return system_error("cannot lock " + root_);
  return fd;
}

/// What machines have left behind that died together with their guardians. Under a lock of lock().
void DiskStore::remove_leftovers() const {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(root_, ignored)) {
    if (!entry.path().filename().string().starts_with(kRunPrefix)) continue;
    // A directory that is being made is empty, and has no lock yet.
    std::error_code failed;
    if (fs::is_empty(entry.path(), failed)) continue;
    const UniqueFd fd(::open(entry.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid() || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) continue;
    fs::remove_all(entry.path(), failed);
  }
}

/// One machine's disks.
class DiskStore::Preparation {
 public:
  Preparation(const DiskStore& store, PreparedDisks& prepared) : store_(store), prepared_(prepared) {}

  /// A disk of a machine that boots.
  Result<void> add(machine::DiskConfig& config) {
    DiskPlace place;
    place.disk = describe(config);
    if (config.file != nullptr) return adopt(config, std::move(place));
    const std::string path = canonical(config.path);
    const std::string home = store_.home_of(path);
    const std::string current = read_current(home);
    const auto image = storage::open_image(
        path, {.format = config.options.format, .read_only = true, .lock = false, .with_backing = false});
    if (!image) return image.error();
    place.disk.format = (*image)->format();
    place.size = (*image)->size();
    place.base = path;
    if (!current.empty()) {
      if (Result<void> fits = check_origin(home, path); !fits) return fits;
      const Result<DiskChain> chain = read_chain(home, current);
      if (!chain) return chain.error();
      place.disk.format = "qcow2";
      place.size = chain->size;
      config.options.format = "qcow2";
      config.path = home + "/" + current;
    }
    if (!config.snapshot && !config.options.read_only) {
      place.directory = home;
      place.top = current;
      place.disk.origin = path;
      prepared_.places.push_back(std::move(place));
      return {};
    }
    if (!current.empty()) {
      if (Result<void> linked = link_here(home, current); !linked) return linked;
      place.directory = prepared_.run_directory_;
      place.top = current;
      config.path = prepared_.run_directory_ + "/" + current;
    }
    if (config.snapshot) return cover(config, std::move(place));
    prepared_.places.push_back(std::move(place));
    return {};
  }

  /// A disk of a machine that goes on from a snapshot.
  Result<void> add_saved(machine::DiskConfig& config, const Manifest::Disk& saved, const std::string& directory,
                         bool keep) {
    DiskPlace place;
    place.disk = saved;
    place.base = saved.base;
    place.top = saved.file;
    if (saved.file.empty()) {
      const auto image =
          storage::open_image(saved.base, {.format = saved.format, .lock = false, .with_backing = false});
      if (!image) return image.error();
      place.size = (*image)->size();
    } else {
      const Result<DiskChain> chain = read_chain(directory, saved.file);
      if (!chain) return chain.error();
      place.size = chain->size;
    }
    if (keep && !saved.read_only && !saved.origin.empty()) {
      return keep_on(config, std::move(place), directory);
    }
    place.disk.origin.clear();
    if (!saved.file.empty()) {
      if (Result<void> linked = link_here(directory, saved.file); !linked) return linked;
      place.directory = prepared_.run_directory_;
      config.path = place.directory + "/" + saved.file;
    }
    if (!saved.read_only) return cover(config, std::move(place));
    prepared_.places.push_back(std::move(place));
    return {};
  }

 private:
  static Manifest::Disk describe(const machine::DiskConfig& config) {
    Manifest::Disk disk;
    disk.serial = config.serial;
    disk.read_only = config.options.read_only;
    disk.discard = config.options.discard;
    disk.direct = config.options.cache == storage::CacheMode::None;
    return disk;
  }

  Result<void> need_run_directory() {
    if (!prepared_.run_directory_.empty()) return {};
    std::string pattern = fmt::format("{}/{}XXXXXX", store_.root_, kRunPrefix);
    if (::mkdtemp(pattern.data()) == nullptr) return system_error("cannot create a directory in " + store_.root_);
    prepared_.run_directory_ = pattern;
    prepared_.owned_ = true;
    prepared_.run_lock_ = UniqueFd(::open(pattern.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!prepared_.run_lock_.valid() || ::flock(prepared_.run_lock_.get(), LOCK_EX | LOCK_NB) != 0) {
      return system_error("cannot lock " + pattern);
    }
    return {};
  }

  Result<void> link_here(const std::string& from, const std::string& top) {
    if (Result<void> made = need_run_directory(); !made) return made;
    const Result<DiskChain> chain = read_chain(from, top);
    if (!chain) return chain.error();
    return link_chain(*chain, from, prepared_.run_directory_);
  }

  /// A file without a name (the seed of cloud-init) gets one, so that snapshots can have it.
  Result<void> adopt(machine::DiskConfig& config, DiskPlace place) {
    if (Result<void> made = need_run_directory(); !made) return made;
    place.directory = prepared_.run_directory_;
    place.top = random_id() + ".raw";
    place.disk.format = "raw";
    config.path = place.directory + "/" + place.top;
    if (Result<void> copied = copy_file(config.file->get(), config.path); !copied) return copied;
    config.file.reset();
    prepared_.places.push_back(std::move(place));
    return {};
  }

  /// Puts a layer on top that ends with the machine.
  Result<void> cover(machine::DiskConfig& config, DiskPlace place) {
    if (Result<void> made = need_run_directory(); !made) return made;
    place.directory = prepared_.run_directory_;
    const OverlayBase below{place.top.empty() ? place.base : place.top, place.disk.format, place.size};
    Result<std::string> made = make_overlay(place.directory, below, false);
    if (!made) return made.error();
    place.top = *std::move(made);
    write_here(config, std::move(place));
    config.options.kept = false;
    return {};
  }

  /// Puts a layer on top that is the disk from now on.
  Result<void> keep_on(machine::DiskConfig& config, DiskPlace place, const std::string& directory) {
    place.directory = store_.home_of(place.disk.origin);
    if (Result<void> made = make_directory(place.directory); !made) return made;
    if (!place.top.empty()) {
      const Result<DiskChain> chain = read_chain(directory, place.top);
      if (!chain) return chain.error();
      if (Result<void> linked = link_chain(*chain, directory, place.directory); !linked) return linked;
    }
    Result<std::string> next = store_.make_next(place);
    if (!next) return next.error();
    place.top = *std::move(next);
    write_here(config, std::move(place));
    return {};
  }

  void write_here(machine::DiskConfig& config, DiskPlace place) {
    place.disk.format = "qcow2";
    config.path = place.directory + "/" + place.top;
    config.options.format = "qcow2";
    config.snapshot = false;
    prepared_.places.push_back(std::move(place));
  }

  const DiskStore& store_;
  PreparedDisks& prepared_;
};

Result<PreparedDisks> DiskStore::prepare(std::vector<machine::DiskConfig>& disks, const std::optional<Manifest>& base,
                                         const std::string& base_directory, bool keep) const {
  PreparedDisks prepared;
  if (disks.empty()) return prepared;
  Result<UniqueFd> reading = lock(false);
  if (!reading) return reading.error();
  prepared.reading_ = *std::move(reading);
  remove_leftovers();
  Preparation preparation(*this, prepared);
  for (std::size_t i = 0; i < disks.size(); ++i) {
    const Result<void> added = base && i < base->disks.size()
                                   ? preparation.add_saved(disks[i], base->disks[i], base_directory, keep)
                                   : preparation.add(disks[i]);
    if (!added) return added.error();
  }
  return prepared;
}

Result<std::string> DiskStore::make_next(const DiskPlace& place) const {
  const bool kept = !place.disk.origin.empty();
  std::vector<std::string> wanted;
  if (kept) {
    if (Result<void> made = make_directory(place.directory); !made) return made.error();
  }
  if (!place.top.empty()) {
    Result<DiskChain> chain = read_chain(place.directory, place.top);
    if (!chain) return chain.error();
    wanted = std::move(chain->names);
  }
  const OverlayBase below{place.top.empty() ? place.base : place.top, place.disk.format, place.size};
  Result<std::string> next = make_overlay(place.directory, below, kept);
  if (!next || !kept) return next;
  if (Result<void> set = set_current(place.directory, *next); !set) return set.error();
  wanted.push_back(*next);
  remove_unreachable(place.directory, wanted);
  return next;
}

Result<Manifest::Disk> DiskStore::give(const DiskPlace& frozen, const std::string& draft) const {
  Manifest::Disk disk = frozen.disk;
  disk.file = frozen.top;
  disk.base = frozen.base;
  if (!frozen.top.empty()) {
    const Result<UniqueFd> reading = lock(false);
    if (!reading) return reading.error();
    const Result<DiskChain> chain = read_chain(frozen.directory, frozen.top);
    if (!chain) return chain.error();
    if (Result<void> linked = link_chain(*chain, frozen.directory, draft); !linked) return linked.error();
    disk.base = chain->base;
  }
  if (disk.base.empty()) return disk;
  const Result<Manifest::FileMark> mark = mark_of(disk.base);
  if (!mark) return mark.error();
  disk.base_mark = *mark;
  if (disk.file.empty() && !disk.read_only) {
    if (Result<void> said = write_origin(frozen.directory, disk.origin, disk.base_mark); !said) return said.error();
  }
  return disk;
}

Result<void> check_disks(const Manifest& manifest, const std::string& directory) {
  const std::string who = fmt::format("the snapshot {}:{}", manifest.machine, manifest.tag);
  for (const Manifest::Disk& disk : manifest.disks) {
    if (!disk.file.empty()) {
      if (const Result<DiskChain> chain = read_chain(directory, disk.file); !chain) {
        return Error{fmt::format("{} is damaged: {}", who, chain.error().message)};
      }
    }
    if (disk.base.empty()) continue;
    if (Result<void> fits = check_mark(disk.base, disk.base_mark, who); !fits) return fits;
  }
  return {};
}

}  // namespace doppel::snapshot
