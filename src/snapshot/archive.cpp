#include "snapshot/archive.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "base/bits.h"
#include "base/system_error.h"
#include "memory/guest_memory.h"
#include "snapshot/checksum.h"
#include "snapshot/ram_layers.h"
#include "snapshot/random_id.h"
#include "snapshot/zstd_stream.h"
#include "storage/open.h"
#include "storage/operations/chain_map.h"
#include "storage/qcow2/create.h"

namespace doppel::snapshot {
namespace {

using memory::kPageShift;
using memory::kPageSize;

constexpr std::string_view kMagic = "doppel archive 1\n";
/// With disks behind the pages.
constexpr std::string_view kMagicWithDisks = "doppel archive 2\n";
constexpr std::uint64_t kEnd = ~std::uint64_t{0};
constexpr std::uint32_t kLargestManifest = 1 << 20;

/// A file that takes its place when it is whole.
class NewFile {
 public:
  static Result<NewFile> create(const std::string& path) {
    NewFile file;
    file.path_ = path;
    file.aside_ = path + ".XXXXXX";
    file.fd_ = UniqueFd(::mkostemp(file.aside_.data(), O_CLOEXEC));
    if (!file.fd_.valid()) return system_error("cannot create a file beside " + path);
    return file;
  }
  NewFile(NewFile&&) noexcept = default;
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (fd_.valid()) ::unlink(aside_.c_str());
  }

  int fd() const { return fd_.get(); }
  Result<void> commit() {
    if (::fsync(fd_.get()) != 0 || ::rename(aside_.c_str(), path_.c_str()) != 0) {
      return system_error("cannot write " + path_);
    }
    fd_.reset();
    return {};
  }

 private:
  NewFile() = default;

  std::string path_, aside_;
  UniqueFd fd_;
};

Result<void> write_pages(Compressor& out, const std::vector<OpenLayer>& layers, std::uint64_t pages,
                         const ArchiveProgress& progress) {
  constexpr std::uint64_t kProgressStep = 4096;
  std::vector<std::byte> contents(kPageSize);
  for (std::uint64_t page = 0; page < pages; ++page) {
    if (page % kProgressStep == 0 && progress) progress(static_cast<double>(page) / static_cast<double>(pages));
    const Result<bool> there = read_page(layers, page, contents);
    if (!there) return there.error();
    if (!*there) continue;
    if (Result<void> put = out.number(page); !put) return put;
    if (Result<void> put = out.put(contents); !put) return put;
  }
  return out.number(kEnd);
}

Result<void> read_pages(Decompressor& in, LayerWriter& layer, std::uint64_t pages) {
  std::vector<std::byte> contents(kPageSize);
  std::uint64_t next = 0;
  for (;;) {
    const Result<std::uint64_t> page = in.number<std::uint64_t>();
    if (!page) return page.error();
    if (*page == kEnd) return {};
    if (*page < next || *page >= pages) return Error{"the archive is damaged: its pages are in no order"};
    next = *page + 1;
    if (Result<void> got = in.get(contents); !got) return got;
    if (Result<void> written = layer.page(*page, contents); !written) return written;
  }
}

constexpr std::uint64_t kDiskPiece = 65536;

bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte value) { return value == std::byte{0}; });
}

/// All that a disk's chain shows: its size, then pieces that are not zero, each with its offset.
Result<void> write_disk(Compressor& out, const std::string& path, const std::string& format) {
  const auto image = storage::open_image(path, {.format = format});
  if (!image) return image.error();
  const std::uint64_t size = (*image)->size();
  if (Result<void> put = out.number(size); !put) return put;
  std::vector<std::byte> buffer(kDiskPiece);
  std::uint64_t next = 0;  // pieces begin at multiples of their size, extents anywhere
  Result<void> done = storage::for_each_extent(**image, [&](const storage::ChainExtent& extent) -> Result<void> {
    if (extent.zero || !extent.present) return {};
    const std::uint64_t end = extent.start + extent.length;
    for (std::uint64_t at = std::max(next, extent.start / kDiskPiece * kDiskPiece); at < end; at += kDiskPiece) {
      const auto piece = std::span(buffer).first(std::min(kDiskPiece, size - at));
      const iovec into = storage::as_iovec(piece);
      if (const int error = (*image)->read(at, {&into, 1}); error != 0) {
        return system_error("cannot read " + path, error);
      }
      next = at + kDiskPiece;
      if (is_zero(piece)) continue;
      if (Result<void> put = out.number(at); !put) return put;
      if (Result<void> put = out.put(piece); !put) return put;
    }
    return {};
  });
  if (!done) return done;
  return out.number(kEnd);
}

/// Such a disk as one layer that stands on nothing.
Result<void> read_disk(Decompressor& in, const std::string& path) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 46;
  const Result<std::uint64_t> size = in.number<std::uint64_t>();
  if (!size) return size.error();
  if (*size > kLargest || *size % 512 != 0) return Error{"the archive is damaged: a disk has no possible size"};
  auto file = storage::HostFile::open(path, {.create = true});
  if (!file) return file.error();
  storage::qcow2::CreateOptions options;
  options.size = *size;
  const auto image = storage::qcow2::create(*std::move(file), options);
  if (!image) return image.error();
  std::vector<std::byte> buffer(kDiskPiece);
  for (std::uint64_t next = 0;;) {
    const Result<std::uint64_t> at = in.number<std::uint64_t>();
    if (!at) return at.error();
    if (*at == kEnd) break;
    if (*at < next || *at >= *size || *at % kDiskPiece != 0) {
      return Error{"the archive is damaged: a disk's pieces are in no order"};
    }
    next = *at + kDiskPiece;
    const auto piece = std::span(buffer).first(std::min(kDiskPiece, *size - *at));
    if (Result<void> got = in.get(piece); !got) return got;
    const iovec from = storage::as_iovec(piece);
    if (const int error = (*image)->write(*at, {&from, 1}); error != 0) {
      return system_error("cannot write " + path, error);
    }
  }
  return (*image)->freeze();
}

Result<void> read_disks(Decompressor& in, const std::string& directory, std::vector<Manifest::Disk>& disks) {
  for (Manifest::Disk& disk : disks) {
    disk.file = random_id() + ".qcow2";
    disk.format = "qcow2";
    disk.base.clear();
    disk.base_mark = {};
    disk.origin.clear();
    if (Result<void> read = read_disk(in, directory + "/" + disk.file); !read) return read;
  }
  return {};
}

Result<std::vector<std::byte>> read_checked(Decompressor& in, const Manifest::File& file, const char* what) {
  Result<std::vector<std::byte>> bytes = in.block(file.bytes);
  if (bytes && crc32c(*bytes) != file.checksum) return Error{fmt::format("the archive is damaged: {}", what)};
  return bytes;
}

}  // namespace

Result<void> export_snapshot(const Store& store, const Manifest& manifest, const std::string& path,
                             const ArchiveProgress& progress) {
  const Result<std::shared_ptr<machine::SavedMachine>> saved = store.open(manifest);
  if (!saved) return saved.error();
  const Result<std::vector<OpenLayer>> layers = store.open_layers(manifest);
  if (!layers) return layers.error();
  Result<NewFile> file = NewFile::create(path);
  if (!file) return file.error();
  Compressor out(file->fd());
  const std::string text = format_manifest(manifest);
  Result<void> done = out.put(std::as_bytes(std::span{manifest.disks.empty() ? kMagic : kMagicWithDisks}));
  if (done) done = out.number(static_cast<std::uint32_t>(text.size()));
  if (done) done = out.put(std::as_bytes(std::span{text}));
  if (done) done = out.put((*saved)->state.clock);
  if (done) done = out.put((*saved)->state.components);
  if (done) done = write_pages(out, *layers, manifest.memory_bytes >> kPageShift, progress);
  const std::string directory = store.directory(manifest.machine, manifest.tag);
  for (const Manifest::Disk& disk : manifest.disks) {
    if (done) done = write_disk(out, disk.file.empty() ? disk.base : directory + "/" + disk.file, disk.format);
  }
  if (done) done = out.finish();
  if (done) done = file->commit();
  return done;
}

Result<Reference> import_snapshot(const Store& store, const std::string& path, const std::optional<Reference>& name) {
  const Result<UniqueFd> fd = open_for_reading(path);
  if (!fd) return fd.error();
  Decompressor in(fd->get());
  const Result<std::vector<std::byte>> magic = in.block(kMagic.size());
  const auto is = [&](std::string_view kind) { return std::ranges::equal(*magic, std::as_bytes(std::span{kind})); };
  if (!magic || (!is(kMagic) && !is(kMagicWithDisks))) {
    return Error{path + " is no archive of a snapshot: doppel snapshot export makes one"};
  }
  const Result<std::uint32_t> length = in.number<std::uint32_t>();
  if (!length || *length > kLargestManifest) return Error{path + " is damaged"};
  const Result<std::vector<std::byte>> text = in.block(*length);
  if (!text) return text.error();
  Result<Manifest> manifest = parse_manifest({reinterpret_cast<const char*>(text->data()), text->size()});
  if (!manifest) return Error{path + ": " + manifest.error().message};
  if (is(kMagic) != manifest->disks.empty()) return Error{path + " is damaged: it has other disks than it says"};
  if (name) manifest->machine = name->machine;
  if (name && !name->tag.empty()) manifest->tag = name->tag;
  const Result<std::vector<std::byte>> clock = read_checked(in, manifest->clock, "its clock");
  if (!clock) return clock.error();
  const Result<std::vector<std::byte>> components = read_checked(in, manifest->components, "its devices");
  if (!components) return components.error();

  Result<Draft> draft = store.begin(manifest->machine, manifest->tag, std::nullopt);
  if (!draft) return draft.error();
  LayerWriter layer(draft->ram.get(), draft->sums.get(), manifest->memory_bytes, true);
  Result<void> done = layer.begin();
  if (done) done = read_pages(in, layer, manifest->memory_bytes >> kPageShift);
  if (done) done = read_disks(in, draft->directory(), manifest->disks);
  if (done) done = in.finish();
  if (!done) return Error{path + ": " + done.error().message};
  Result<Manifest::File> sums = layer.finish();
  if (!sums) return sums.error();
  manifest->layers = {*sums};
  manifest->stored_bytes = layer.stored_bytes();
  manifest->ancestors.clear();
  // Whoever made the archive does not choose which of this host's directories a guest sees.
  for (Manifest::Share& share : manifest->shares) share.path.clear();
  done = write_all(draft->clock.get(), *clock);
  if (done) done = write_all(draft->components.get(), *components);
  const std::string description = format_manifest(*manifest);
  if (done) done = write_all(draft->manifest.get(), std::as_bytes(std::span{description}));
  if (done) done = store.commit(*draft);
  if (!done) return done.error();
  return Reference{manifest->machine, manifest->tag};
}

}  // namespace doppel::snapshot
