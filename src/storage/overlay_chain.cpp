#include "storage/overlay_chain.h"

#include <fmt/format.h>

#include <filesystem>

#include "storage/operations/merge.h"
#include "storage/operations/new_image.h"
#include "storage/qcow2/image.h"

namespace doppel::storage {

using qcow2::Qcow2Image;

std::vector<std::shared_ptr<Image>> OverlayChain::images() const {
  std::vector<std::shared_ptr<Image>> images{disk_.image()};
  while (std::shared_ptr<Image> next = images.back()->backing()) images.push_back(std::move(next));
  return images;
}

Result<void> OverlayChain::create_overlay(const std::string& path, const std::string& top, const std::string& format,
                                          std::uint64_t size) {
  if (std::filesystem::exists(path)) return Error{path + " exists already"};
  NewImageOptions options;
  options.format = ImageFormat::Qcow2;
  options.qcow2.size = size;
  options.qcow2.backing_file = std::filesystem::absolute(top).string();
  options.qcow2.backing_format = format;
  auto made = NewImage::create(path, options);
  return made ? made->finish() : Result<void>(made.error());
}

Result<void> OverlayChain::snapshot(const std::string& path) {
  const std::shared_ptr<Image> top = disk_.image();
  if (auto created = create_overlay(path, top->name(), top->format(), top->size()); !created) return created;
  auto file = HostFile::open(path, {});
  auto done = file ? snapshot(std::shared_ptr<File>(std::move(*file))) : Result<void>(file.error());
  std::error_code ignored;
  if (!done) std::filesystem::remove(path, ignored);
  return done;
}

Result<void> OverlayChain::snapshot(std::shared_ptr<File> overlay) {
  const std::shared_ptr<Image> top = disk_.image();
  auto image = Qcow2Image::open(std::move(overlay), top, {.read_only = false});
  if (!image) return image.error();
  if ((*image)->size() != top->size()) {
    return Error{
        fmt::format("{} has {} bytes and {} has {}", (*image)->name(), (*image)->size(), top->name(), top->size())};
  }
  if (auto frozen = top->freeze(); !frozen) return frozen;
  disk_.replace_image(std::move(*image));
  return {};
}

Result<void> OverlayChain::merge(std::size_t index, const Progress& progress) {
  const std::vector<std::shared_ptr<Image>> chain = images();
  if (index == 0 || index + 1 >= chain.size()) {
    return Error{"only an image between two others can be merged; take a snapshot first to free the top"};
  }
  const std::shared_ptr<Image>& below = chain[index + 1];
  auto* const above = dynamic_cast<Qcow2Image*>(chain[index - 1].get());
  const bool above_was_frozen = above->read_only();
  if (auto thawed = below->thaw(); !thawed) return thawed;
  auto merged = merge_into(*chain[index], *below, progress);
  if (auto frozen = below->freeze(); merged && !frozen) merged = frozen;
  if (!merged) return merged;
  if (above_was_frozen) {
    if (auto thawed = above->thaw(); !thawed) return thawed;
  }
  auto named = above->set_backing(std::filesystem::absolute(below->name()).string(), below->format(), below);
  if (above_was_frozen) {
    if (auto frozen = above->freeze(); named && !frozen) named = frozen;
  }
  return named;
}

}  // namespace doppel::storage
