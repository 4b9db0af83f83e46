#include "storage/operations/new_image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <utility>

#include "base/fd.h"
#include "base/system_error.h"
#include "storage/file_lock.h"
#include "storage/host_file.h"
#include "storage/raw_image.h"

namespace doppel::storage {
namespace {

bool names_block_device(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode);
}

/// An image that somebody uses is not replaced under them.
Result<void> check_unused(const std::string& path) {
  const UniqueFd existing(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!existing.valid()) {
    if (errno == ENOENT) return {};
    return system_error("cannot replace " + path);
  }
  return lock_image(existing.get(), path, false);
}

Result<bool> parse_switch(std::string_view name, std::string_view value) {
  if (value == "on") return true;
  if (value == "off") return false;
  return Error{fmt::format("{} is on or off, not {}", name, value)};
}

template <class T>
Result<void> take(Result<T> value, T& into) {
  if (!value) return value.error();
  into = *value;
  return {};
}

int preallocate_raw(File& file, std::uint64_t size, qcow2::Preallocation how) {
  if (const int error = file.truncate(size); error != 0) return error;
  if (how == qcow2::Preallocation::Falloc) return file.allocate(0, size);
  if (how != qcow2::Preallocation::Full) return 0;
  const std::vector<std::byte> zeroes(1U << 20);
  for (std::uint64_t at = 0; at < size; at += zeroes.size()) {
    const int error = file.write_bytes(at, std::span(zeroes).first(std::min<std::uint64_t>(zeroes.size(), size - at)));
    if (error != 0) return error;
  }
  return 0;
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const Error bad{fmt::format("\"{}\" is not a size: write bytes, or a number and a unit, such as 512M or 20G", text)};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{} || !(number >= 0)) return bad;
  std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  constexpr std::string_view kUnits = "BKMGTPE";
  std::size_t power = 0;
  if (!unit.empty()) {
    power = kUnits.find(static_cast<char>(unit.front() & ~0x20));
    unit.remove_prefix(1);
    if (power == std::string_view::npos ||
        (!unit.empty() && unit != "iB" && unit != "B" && unit != "ib" && unit != "b")) {
      return bad;
    }
  }
  const double bytes = std::ldexp(number, static_cast<int>(power * 10));
  if (bytes >= 4.6e18) return bad;
  return static_cast<std::uint64_t>(bytes);
}

Result<void> NewImageOptions::parse(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    at = end + 1;
    const std::size_t equals = item.find('=');
    const std::string name = item.substr(0, equals);
    const std::string value = equals == std::string::npos ? "on" : item.substr(equals + 1);
    if (name == "preallocation") {
      constexpr std::array<std::string_view, 4> kWays{"off", "metadata", "falloc", "full"};
      const auto found = std::ranges::find(kWays, value);
      if (found == kWays.end() || (format == ImageFormat::Raw && value == "metadata")) {
        return Error{"preallocation is off, metadata (qcow2), falloc or full, not " + value};
      }
      qcow2.preallocation = static_cast<qcow2::Preallocation>(found - kWays.begin());
      continue;
    }
    if (format == ImageFormat::Raw) return Error{"raw images have no option " + name + "; there is preallocation"};
    std::uint64_t number = 0;
    Result<void> taken;
    if (name == "cluster_size") {
      taken = take(parse_bytes(value), qcow2.cluster_size);
    } else if (name == "refcount_bits") {
      taken = take(parse_bytes(value), number);
      qcow2.refcount_bits = number > 64 ? 0 : static_cast<std::uint32_t>(number);
    } else if (name == "lazy_refcounts") {
      taken = take(parse_switch(name, value), qcow2.lazy_refcounts);
    } else if (name == "extended_l2") {
      taken = take(parse_switch(name, value), qcow2.extended_l2);
    } else if (name == "compression_type" && (value == "zlib" || value == "deflate")) {
      qcow2.compression_type = qcow2::CompressionType::Deflate;
    } else if (name == "compression_type" && value == "zstd") {
      qcow2.compression_type = qcow2::CompressionType::Zstd;
    } else if (name == "compression_type") {
      return Error{"compression_type is zlib or zstd, not " + value};
    } else if (name == "compat" && (value == "0.10" || value == "v2")) {
      qcow2.version = 2;
    } else if (name == "compat" && (value == "1.1" || value == "v3")) {
      qcow2.version = 3;
    } else if (name == "compat") {
      return Error{"compat is 0.10 or 1.1, not " + value};
    } else if (name == "backing_file") {
      qcow2.backing_file = value;
    } else if (name == "backing_fmt") {
      qcow2.backing_format = value;
    } else if (name == "size") {
      taken = take(parse_bytes(value), qcow2.size);
    } else {
      return Error{
          fmt::format("qcow2 images have no option {}; there are cluster_size, compat, compression_type, "
                      "extended_l2, lazy_refcounts, preallocation, refcount_bits, backing_file, backing_fmt, size",
                      name)};
    }
    if (!taken) return taken;
  }
  return {};
}

Result<NewImage> NewImage::create(const std::string& path, const NewImageOptions& options,
                                  std::shared_ptr<Image> backing) {
  NewImage made;
  made.path_ = path;
  HostFileOptions how{.read_only = false, .create = true};
  std::string place = path;
  if (names_block_device(path)) {
    how.create = false;
  } else {
    std::error_code ignored;
    const auto real = std::filesystem::canonical(path, ignored);  // a symbolic link stays one
    if (!ignored) made.path_ = real.string();
    if (auto unused = check_unused(made.path_); !unused) return unused.error();
    place = fmt::format("{}.new-{}", made.path_, ::getpid());
  }
  auto opened = HostFile::open(place, how);
  if (!opened) return opened.error();
  if (how.create) made.aside_ = place;
  const std::shared_ptr<File> file(std::move(*opened));
  if (options.format == ImageFormat::Qcow2) {
    auto image = qcow2::create(file, options.qcow2, std::move(backing));
    if (!image) return image.error();
    made.image_ = std::move(*image);
    return made;
  }
  if (!options.qcow2.backing_file.empty()) return Error{"a raw image cannot have a backing file; use -f qcow2"};
  if (const int error = preallocate_raw(*file, options.qcow2.size, options.qcow2.preallocation); error != 0) {
    return system_error("cannot create " + path, error);
  }
  made.image_ = std::make_shared<RawImage>(file, false, false);
  return made;
}

NewImage::NewImage(NewImage&& other) noexcept
    : path_(std::move(other.path_)), aside_(std::exchange(other.aside_, {})), image_(std::move(other.image_)) {}

NewImage::~NewImage() {
  image_.reset();
  if (!aside_.empty()) ::unlink(aside_.c_str());
}

Result<void> NewImage::finish() {
  if (const int error = image_->flush(); error != 0) return system_error("cannot write " + path_, error);
  image_.reset();
  if (aside_.empty()) return {};
  const UniqueFd file(::open(aside_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() || ::fsync(file.get()) != 0) return system_error("cannot write " + path_ + " to disk");
  if (::rename(aside_.c_str(), path_.c_str()) != 0) return system_error("cannot rename " + aside_ + " to " + path_);
  aside_.clear();
  const std::string directory = std::filesystem::path(path_).parent_path().string();
  const UniqueFd parent(::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent.valid() || ::fsync(parent.get()) != 0) return system_error("cannot write " + directory + " to disk");
  return {};
}

}  // namespace doppel::storage
