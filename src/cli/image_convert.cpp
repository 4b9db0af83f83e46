// doppel image convert
#include <fmt/format.h>

#include "cli/exit_status.h"
#include "cli/image_commands.h"
#include "cli/progress_bar.h"
#include "storage/open.h"
#include "storage/operations/copy.h"
#include "storage/operations/new_image.h"

namespace doppel::cli {
namespace {

int copy(storage::Image& source, storage::Image& target, const storage::CopyOptions& how, bool quiet) {
  ProgressBar bar("converting", quiet);
  const auto copied = storage::copy_image(source, target, how,
                                          [&bar](std::uint64_t done, std::uint64_t total) { bar.show(done, total); });
  return copied ? exit_status::kSuccess : image_failure(copied.error());
}

int convert_into_existing(storage::Image& source, const ImageOptions& options, storage::CopyOptions how) {
  ImageOptions target_options = options;
  target_options.format = options.output_format;
  target_options.force_share = false;
  auto target = open_operand(options.second, target_options, false);
  if (!target) return image_failure(target.error());
  how.target_has_contents = true;
  if (const int status = copy(source, **target, how, options.quiet); status != exit_status::kSuccess) return status;
  if ((*target)->flush() != 0) return image_failure(Error{"cannot write " + options.second + " to disk"});
  return exit_status::kSuccess;
}

}  // namespace

int image_convert(const ImageOptions& options) {
  const auto sparse = storage::parse_bytes(options.sparse_size);
  if (!sparse) return image_failure(sparse.error());
  if (*sparse % 512 != 0) return image_failure(Error{"the size of -S must be a multiple of 512"});
  auto source = open_operand(options.file, options, true);
  if (!source) return image_failure(source.error());
  storage::CopyOptions how{.compress = options.compress, .sparse_size = *sparse};
  if (options.no_create) return convert_into_existing(**source, options, how);

  storage::NewImageOptions made;
  const auto format = storage::parse_format(options.output_format.empty() ? "raw" : options.output_format);
  if (!format) return image_failure(format.error());
  made.format = *format;
  for (const std::string& text : options.creation) {
    if (auto parsed = made.parse(text); !parsed) return image_failure(parsed.error());
  }
  made.qcow2.size = (*source)->size();
  std::shared_ptr<storage::Image> backing;
  if (!options.backing.empty()) {
    if (options.backing_format.empty()) {
      return image_failure(Error{"say which format the backing file has: -F raw or -F qcow2"});
    }
    made.qcow2.backing_file = options.backing;
    made.qcow2.backing_format = options.backing_format;
    const auto where = storage::resolve_backing(options.second, options.backing);
    if (!where) return image_failure(where.error());
    auto opened = storage::open_image(*where, {.format = options.backing_format});
    if (!opened) return image_failure(opened.error());
    backing = std::move(*opened);
    how.target_has_contents = true;
  }
  auto target = storage::NewImage::create(options.second, made, std::move(backing));
  if (!target) return image_failure(target.error());
  how.target_has_contents = how.target_has_contents || target->is_block_device();
  if (const int status = copy(**source, *target->image(), how, options.quiet); status != exit_status::kSuccess) {
    return status;
  }
  const auto finished = target->finish();
  return finished ? exit_status::kSuccess : image_failure(finished.error());
}

}  // namespace doppel::cli
