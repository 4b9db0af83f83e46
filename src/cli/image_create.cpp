// doppel image create, resize
#include <fmt/format.h>

#include "cli/exit_status.h"
#include "cli/image_commands.h"
#include "cli/message.h"
#include "storage/open.h"
#include "storage/operations/merge.h"
#include "storage/operations/new_image.h"

namespace doppel::cli {
namespace {

constexpr std::uint64_t kSector = 512;

Result<std::uint64_t> new_size(const std::string& text, std::uint64_t old) {
  const bool more = text.starts_with('+');
  const bool less = text.starts_with('-');
  const auto number = storage::parse_bytes(std::string_view(text).substr(more || less ? 1 : 0));
  if (!number) return number.error();
  if (less && *number > old) return Error{fmt::format("the disk has only {} bytes", old)};
  const std::uint64_t size = more ? old + *number : less ? old - *number : *number;
  return (size + kSector - 1) / kSector * kSector;
}

}  // namespace

int image_failure(const Error& error) {
  complain(error.message);
  return exit_status::kFailure;
}

std::optional<std::string> if_given(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(text);
}

Result<std::shared_ptr<storage::Image>> open_operand(const std::string& path, const ImageOptions& options,
                                                     bool read_only) {
  return storage::open_image(
      path, {.format = if_given(options.format), .read_only = read_only, .lock = !options.force_share});
}

int image_create(const ImageOptions& options) {
  const std::string& path = options.file;
  storage::NewImageOptions made;
  const auto format = storage::parse_format(options.format.empty() ? "raw" : options.format);
  if (!format) return image_failure(format.error());
  made.format = *format;
  for (const std::string& text : options.creation) {
    if (auto parsed = made.parse(text); !parsed) return image_failure(parsed.error());
  }
  if (!options.backing.empty()) made.qcow2.backing_file = options.backing;
  if (!options.backing_format.empty()) made.qcow2.backing_format = options.backing_format;
  if (!options.second.empty()) {
    const auto size = new_size(options.second, 0);
    if (!size) return image_failure(size.error());
    made.qcow2.size = *size;
  }
  if (!made.qcow2.backing_file.empty()) {
    if (!made.qcow2.backing_format) {
      return image_failure(Error{"say which format the backing file has: -F raw or -F qcow2"});
    }
    const auto where = storage::resolve_backing(path, made.qcow2.backing_file);
    if (!where) return image_failure(where.error());
    const auto backing = storage::open_image(*where, {.format = made.qcow2.backing_format});
    if (!backing) return image_failure(backing.error());
    if (made.qcow2.size == 0) made.qcow2.size = (*backing)->size();
  } else if (options.second.empty() && made.qcow2.size == 0) {
    return image_failure(Error{"say how large the disk is to be, such as 20G"});
  }
  auto image = storage::NewImage::create(path, made);
  if (!image) return image_failure(image.error());
  if (auto finished = image->finish(); !finished) return image_failure(finished.error());
  if (!options.quiet)
    fmt::print("{}: {} disk of {} bytes\n", path, options.format.empty() ? "raw" : options.format, made.qcow2.size);
  return exit_status::kSuccess;
}

int image_resize(const ImageOptions& options) {
  const std::string& path = options.file;
  auto image = open_operand(path, options, false);
  if (!image) return image_failure(image.error());
  const std::uint64_t old = (*image)->size();
  const auto size = new_size(options.second, old);
  if (!size) return image_failure(size.error());
  if (*size < old && !options.shrink) {
    return image_failure(Error{
        fmt::format("{} bytes are less than the {} that {} has; add --shrink to cut the rest off", *size, old, path)});
  }
  if (auto resized = storage::resize_image(**image, *size); !resized) return image_failure(resized.error());
  if (!options.quiet) fmt::print("{}: now {} bytes\n", path, *size);
  return exit_status::kSuccess;
}

}  // namespace doppel::cli
