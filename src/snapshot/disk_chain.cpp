#include "snapshot/disk_chain.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/fd.h"
#include "base/system_error.h"
#include "snapshot/random_id.h"
#include "storage/host_file.h"
#include "storage/qcow2/create.h"
#include "storage/qcow2/header.h"

namespace doppel::snapshot {
namespace {

/// More than open_image would follow.
constexpr std::size_t kMostLayers = 500;
constexpr std::string_view kRaw = ".raw", kQcow2 = ".qcow2";

}  // namespace

bool is_layer_name(const std::string& name) {
  return name.find('/') == std::string::npos && !name.starts_with('.') &&
         (name.ends_with(kRaw) || name.ends_with(kQcow2));
}

Result<DiskChain> read_chain(const std::string& directory, const std::string& top) {
  DiskChain chain;
  for (std::string name = top;;) {
    if (chain.names.size() == kMostLayers || std::ranges::find(chain.names, name) != chain.names.end()) {
      return Error{fmt::format("{}/{} has too many layers behind it", directory, top)};
    }
    chain.names.push_back(name);
    const std::string path = fmt::format("{}/{}", directory, name);
    const auto file = storage::HostFile::open(path, {.read_only = true, .lock = false});
    if (!file) return file.error();
    if (name.ends_with(kRaw)) {
      if (chain.size == 0) chain.size = (*file)->size();
      return chain;
    }
    const Result<storage::qcow2::Header> header = storage::qcow2::parse_header(**file);
    if (!header) return Error{path + ": " + header.error().message};
    if (chain.size == 0) chain.size = header->size;
    if (!is_layer_name(header->backing_file)) {
      chain.base = header->backing_file;
      chain.base_format = header->backing_format.value_or("");
      return chain;
    }
    name = header->backing_file;
  }
}

Result<void> link_chain(const DiskChain& chain, const std::string& from, const std::string& to) {
  for (const std::string& name : chain.names) {
    const std::string path = fmt::format("{}/{}", from, name);
    const std::string linked = fmt::format("{}/{}", to, name);
    if (::link(path.c_str(), linked.c_str()) != 0 && errno != EEXIST) {
      return system_error("cannot link " + path);
    }
  }
  return {};
}

Result<std::string> make_overlay(const std::string& directory, const OverlayBase& base, bool durable) {
  const std::string name = random_id() + std::string(kQcow2);
  const std::string path = directory + "/" + name;
  auto file = storage::HostFile::open(path, {.lock = false, .create = true});
  if (!file) return file.error();
  storage::qcow2::CreateOptions options;
  options.size = base.size;
  options.backing_file = base.path;
  options.backing_format = base.format;
  const auto image = storage::qcow2::create(*std::move(file), options);
  Result<void> made = image ? Result<void>() : Result<void>(image.error());
  if (made && durable) {
    if (const int error = (*image)->file().sync(); error != 0) made = system_error("cannot write " + path, error);
    if (made) made = sync_directory(directory);
  }
  if (!made) {
    ::unlink(path.c_str());
    return made.error();
  }
  return name;
}

Result<Manifest::FileMark> mark_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return system_error("cannot examine " + path);
  // A device's node tells nothing of what is written to the device.
  if (!S_ISREG(status.st_mode)) return Manifest::FileMark{};
  constexpr std::int64_t kSecond = 1'000'000'000;
  return Manifest::FileMark{static_cast<std::uint64_t>(status.st_size),
                            status.st_mtim.tv_sec * kSecond + status.st_mtim.tv_nsec};
}

Result<void> sync_directory(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return system_error("cannot write " + path);
  return {};
}

}  // namespace doppel::snapshot
