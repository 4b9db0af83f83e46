// doppel image commit, rebase
#include <fmt/format.h>

#include <filesystem>

#include "cli/exit_status.h"
#include "cli/image_commands.h"
#include "cli/progress_bar.h"
#include "storage/open.h"
#include "storage/operations/merge.h"

namespace doppel::cli {
namespace {

using storage::qcow2::Qcow2Image;

Error no_backing(const std::string& path) {
  return Error{path + " has no backing file"};
}

/// The name of the file right behind the image at `path`.
Result<std::string> next_in_chain(const std::string& path, const ImageOptions& options) {
  auto image =
      storage::open_image(path, {.format = if_given(options.format), .with_backing = false, .for_check = true});
  if (!image) return image.error();
  auto* const qcow = dynamic_cast<Qcow2Image*>(image->get());
  if (qcow == nullptr || qcow->header().backing_file.empty()) return no_backing(path);
  return storage::resolve_backing(path, qcow->header().backing_file);
}

}  // namespace

int image_commit(const ImageOptions& options) {
  const std::string& path = options.file;
  const auto next = next_in_chain(path, options);
  if (!next) return image_failure(next.error());
  const std::string base_path = options.backing.empty() ? *next : options.backing;
  std::error_code ignored;
  const bool is_next = std::filesystem::equivalent(base_path, *next, ignored);
  const bool empty_afterwards = is_next && !options.keep;
  auto top = storage::open_image(
      path, {.format = if_given(options.format), .read_only = !empty_afterwards, .write_backing = base_path});
  if (!top) return image_failure(top.error());
  std::shared_ptr<storage::Image> base = (*top)->backing();
  while (base && base->read_only()) base = base->backing();
  if (!base) return image_failure(Error{fmt::format("{} is not a backing file of {}", base_path, path)});

  ProgressBar bar("committing", options.quiet);
  const auto progress = [&bar](std::uint64_t done, std::uint64_t total) { bar.show(done, total); };
  if (auto merged = storage::merge_into(**top, *base, progress); !merged) return image_failure(merged.error());
  if (empty_afterwards) {
    auto& qcow = dynamic_cast<Qcow2Image&>(**top);
    if (auto emptied = storage::make_empty(qcow, progress); !emptied) return image_failure(emptied.error());
  }
  if (!options.quiet) fmt::print("{}: written into {}\n", path, base_path);
  return exit_status::kSuccess;
}

int image_rebase(const ImageOptions& options) {
  const std::string& path = options.file;
  auto opened = storage::open_image(
      path, {.format = if_given(options.format), .read_only = false, .with_backing = !options.unsafe});
  if (!opened) return image_failure(opened.error());
  auto* const top = dynamic_cast<Qcow2Image*>(opened->get());
  if (top == nullptr) return image_failure(Error{path + " is a raw image, which has no backing file"});
  std::shared_ptr<storage::Image> backing;
  if (!options.backing.empty() && options.backing_format.empty()) {
    return image_failure(Error{"say which format the backing file has: -F raw or -F qcow2"});
  }
  if (!options.backing.empty() && !options.unsafe) {
    const auto where = storage::resolve_backing(path, options.backing);
    if (!where) return image_failure(where.error());
    auto found = storage::open_image(*where, {.format = options.backing_format});
    if (!found) return image_failure(found.error());
    backing = std::move(*found);
  }
  if (!options.unsafe) {
    ProgressBar bar("rebasing", options.quiet);
    const auto prepared = storage::prepare_rebase(
        *top, backing, [&bar](std::uint64_t done, std::uint64_t total) { bar.show(done, total); });
    if (!prepared) return image_failure(prepared.error());
  }
  const auto named = top->set_backing(options.backing, if_given(options.backing_format), std::move(backing));
  if (!named) return image_failure(named.error());
  if (!options.quiet) {
    fmt::print("{}: {}\n", path, options.backing.empty() ? "stands alone" : "now backed by " + options.backing);
  }
  return exit_status::kSuccess;
}

}  // namespace doppel::cli
