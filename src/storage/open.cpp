#include "storage/open.h"

#include <fmt/format.h>

#include <array>

#include "base/system_error.h"
#include "storage/probe.h"
#include "storage/raw_image.h"

namespace doppel::storage {

Result<std::shared_ptr<Image>> open_image(const std::string& path, const OpenOptions& options) {
  auto file = HostFile::open(path, {.read_only = options.read_only, .cache = options.cache, .lock = options.lock});
  if (!file) return file.error();
  std::array<std::byte, 512> header{};
  if (const int error = (*file)->read_bytes(0, header); error != 0) return system_error("cannot read " + path, error);
  auto format = options.format ? parse_format(*options.format) : probe_format(header);
  if (!format) return format.error();
  if (*format != ImageFormat::Raw) {
    return Error{fmt::format("{} is of format {}, which is not supported", path, probe_format_name(header))};
  }
  return std::shared_ptr<Image>(
      std::make_shared<RawImage>(std::shared_ptr<File>(std::move(*file)), options.read_only, !options.format));
}

}  // namespace doppel::storage
