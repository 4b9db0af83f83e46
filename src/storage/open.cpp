#include "storage/open.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <set>
#include <utility>

#include "base/system_error.h"
#include "storage/probe.h"
#include "storage/qcow2/image.h"
#include "storage/raw_image.h"

namespace doppel::storage {
namespace {

/// Deeper chains than this are a mistake; each image is an open file.
constexpr std::size_t kMaxDepth = 500;

using Visited = std::set<std::pair<dev_t, ino_t>>;

Result<std::shared_ptr<Image>> open_in_chain(const std::string& path, const OpenOptions& options, bool is_top,
                                             Visited& visited);

Result<std::shared_ptr<Image>> open_backing(const std::string& path, const qcow2::Header& header, bool may_have_backing,
                                            const OpenOptions& options, Visited& visited) {
  if (header.backing_file.empty() || !options.with_backing) return std::shared_ptr<Image>();
  if (!may_have_backing) {
    return Error{
        fmt::format("{} is a backing file of unstated format and has a backing file itself; if it is a qcow2 "
                    "image, say so with: doppel image rebase -u -b {} -F qcow2 OVERLAY",
                    path, path)};
  }
  auto backing_path = resolve_backing(path, header.backing_file);
  if (!backing_path) return backing_path.error();
  OpenOptions backing = options;
  backing.format = header.backing_format;
  std::error_code ignored;
  backing.read_only =
      !options.write_backing || !std::filesystem::equivalent(*options.write_backing, *backing_path, ignored);
  backing.for_check = false;
  auto opened = open_in_chain(*backing_path, backing, false, visited);
  if (!opened) return Error{fmt::format("{} (backing file of {})", opened.error().message, path)};
  return opened;
}

Result<std::shared_ptr<Image>> open_in_chain(const std::string& path, const OpenOptions& options, bool is_top,
                                             Visited& visited) {
  auto opened = HostFile::open(
      path,
      {.read_only = options.read_only, .cache = options.cache, .lock = options.lock, .kept = options.kept || !is_top});
  if (!opened) return opened.error();
  const std::shared_ptr<File> file(std::move(*opened));
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !visited.emplace(status.st_dev, status.st_ino).second) {
    return Error{path + " is a backing file of itself"};
  }
  if (visited.size() > kMaxDepth) return Error{path + " has too many backing files behind it"};
  std::array<std::byte, 512> start{};
  if (const int error = file->read_bytes(0, start); error != 0) return system_error("cannot read " + path, error);
  auto format = options.format ? parse_format(*options.format) : probe_format(start);
  if (!format) return Error{path + ": " + format.error().message};
  switch (*format) {
    case ImageFormat::Raw:
      return std::shared_ptr<Image>(std::make_shared<RawImage>(file, options.read_only, !options.format));
    case ImageFormat::Qcow2: {
      auto header = qcow2::parse_header(*file);
      if (!header) return header.error();
      auto backing = open_backing(path, *header, is_top || options.format.has_value(), options, visited);
      if (!backing) return backing.error();
      auto image = qcow2::Qcow2Image::open(file, std::move(*backing),
                                           {.read_only = options.read_only, .for_check = options.for_check});
      if (!image) return image.error();
      return std::shared_ptr<Image>(std::move(*image));
    }
    case ImageFormat::Other:
      break;
  }
  return Error{fmt::format("{} is of format {}, which is not supported; there are raw and qcow2", path,
                           probe_format_name(start))};
}

}  // namespace

Result<std::shared_ptr<Image>> open_image(const std::string& path, const OpenOptions& options) {
  Visited visited;
  return open_in_chain(path, options, true, visited);
}

Result<std::string> resolve_backing(const std::string& path, const std::string& name) {
  constexpr std::string_view kFile = "file:";
  std::string file = name.starts_with(kFile) ? name.substr(kFile.size()) : name;
  const std::size_t colon = file.find(':');
  if (colon != std::string::npos && file.find('/') > colon && !name.starts_with(kFile)) {
    return Error{fmt::format("{} has the backing file {}; only files are supported", path, name)};
  }
  if (file.starts_with('/')) return file;
  return (std::filesystem::path(path).parent_path() / file).string();
}

}  // namespace doppel::storage
