#include "snapshot/snapshotter.h"

#include <bit>
#include <chrono>
#include <ctime>
#include <utility>

#include "base/log.h"
#include "base/system_error.h"
#include "base/version.h"
#include "snapshot/checksum.h"
#include "snapshot/machine_manifest.h"
#include "snapshot/ram_layers.h"
#include "snapshot/random_id.h"
#include "storage/host_file.h"
#include "storage/overlay_chain.h"

namespace doppel::snapshot {
namespace {

/// Each layer is looked through at a restore, and keeps its ancestors' pages on the host's disk.
constexpr std::size_t kMostLayers = 8;
/// Each run of pages is a mapping of its own at a restore, for about two microseconds.
constexpr std::uint64_t kMostRuns = 2048;
/// Pages are taken in groups of so many, so that there are fewer runs.
constexpr unsigned kGroup = 16;

/// Every group that has a page in it, whole.
void widen(RamCapture::PageBits& bits) {
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kGroup) - 1;
  for (std::uint64_t& word : bits) {
    for (unsigned shift = 0; word != 0 && shift < 64; shift += kGroup) {
      if ((word >> shift & kMask) != 0) word |= kMask << shift;
    }
  }
}

std::uint64_t count_runs(const RamCapture::PageBits& bits) {
  std::uint64_t runs = 0;
  std::uint64_t before = 0;
  for (const std::uint64_t word : bits) {
    runs += static_cast<unsigned>(std::popcount(word & ~(word << 1 | before)));
    before = word >> 63;
  }
  return runs;
}

std::uint64_t count(const RamCapture::PageBits& bits) {
  std::uint64_t pages = 0;
  for (const std::uint64_t word : bits) pages += static_cast<unsigned>(std::popcount(word));
  return pages;
}

RamCapture::PageBits all_pages(std::uint64_t pages) {
  RamCapture::PageBits bits(pages / 64, ~std::uint64_t{0});
  if (pages % 64 != 0) bits.push_back((std::uint64_t{1} << (pages % 64)) - 1);
  return bits;
}

Result<Manifest::File> write_blob(const UniqueFd& fd, std::span<const std::byte> bytes) {
  if (Result<void> written = write_all(fd.get(), bytes); !written) return written.error();
  return Manifest::File{bytes.size(), crc32c(bytes)};
}

}  // namespace

Snapshotter::Snapshotter(machine::Machine& machine, int keeper_socket, std::optional<Manifest> base)
    : machine_(machine),
      keeper_(keeper_socket),
      capture_(machine.memory()),
      description_(describe_machine(machine.config())),
      base_(std::move(base)) {
  machine_.memory().set_write_observer(&capture_);
}

Snapshotter::~Snapshotter() {
  {
    const std::scoped_lock lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<void> Snapshotter::create(CreateOptions options, Done done) {
  if (Result<void> savable = can_be_saved(machine_.config()); !savable) return savable;
  if (active_.exchange(true)) return Error{"a snapshot of this machine is being written already"};
  if (thread_.joinable()) thread_.join();
  thread_ = std::thread([this, options = std::move(options), done = std::move(done)] {
    Result<CreateReport> report = make(options);
    active_ = false;
    done(std::move(report));
  });
  return {};
}

Snapshotter::Progress Snapshotter::progress() const {
  return {active_, pages_, pages_done_};
}

std::vector<storage::Disk*> Snapshotter::written_disks() {
  std::vector<storage::Disk*> written;
  for (storage::Disk* const disk : machine_.disks()) {
    if (!disk->traits().read_only) written.push_back(disk);
  }
  return written;
}

/// And writes most of what the disks hold back, so that little is left for the instant.
Result<std::vector<Keeper::Overlay>> Snapshotter::make_overlays() {
  const std::vector<storage::Disk*> disks = written_disks();
  if (disks.empty()) return std::vector<Keeper::Overlay>();
  Result<std::vector<Keeper::Overlay>> overlays = keeper_.overlays();
  if (!overlays) return overlays;
  if (overlays->size() != disks.size()) {
    return Error{"the machine's disks have no place for layers: its state directory was not to be had when it started"};
  }
  for (storage::Disk* const disk : disks) {
    const std::shared_ptr<storage::Image> image = disk->image();
    int error = image->keep();
    if (error == 0) error = image->flush();
    if (error != 0) return system_error("cannot write " + image->name(), error);
  }
  return overlays;
}

void Snapshotter::take(bool may_be_incremental, std::vector<Keeper::Overlay> overlays) {
  const std::uint64_t pages = machine_.memory().size() >> memory::kPageShift;
  RamCapture::PageBits wanted = machine_.memory().dirty().collect_bits();
  widen(wanted);
  const bool incremental = may_be_incremental && count(wanted) <= pages / 2 && count_runs(wanted) <= kMostRuns;
  if (!incremental) wanted = all_pages(pages);
  Instant instant{machine_.save(), incremental, std::time(nullptr)};
  const std::vector<storage::Disk*> disks = written_disks();
  for (; instant.result && instant.disks < disks.size(); ++instant.disks) {
    storage::Disk& disk = *disks[instant.disks];
    Keeper::Overlay& overlay = overlays[instant.disks];
    auto file = storage::HostFile::adopt(std::move(overlay.file), "the next layer of " + disk.image()->name(), {},
                                         std::move(overlay.direct));
    instant.result = file ? storage::OverlayChain(disk).snapshot(std::shared_ptr<storage::File>(*std::move(file)))
                          : Result<void>(file.error());
    if (!instant.result) break;
  }
  if (instant.result) {
    capture_.begin(wanted);
    machine_.forget_write_rights();
  }
  pages_ = count(wanted);
  pages_done_ = 0;
  instant.stopped = std::chrono::steady_clock::now() - machine_.stopped_since();
  {
    const std::scoped_lock lock(mutex_);
    instant_ = std::move(instant);
    taken_ = true;
  }
  changed_.notify_all();
}

Result<CreateReport> Snapshotter::make(const CreateOptions& options) {
  pages_ = pages_done_ = 0;
  std::optional<Store::Parent> parent;
  if (base_ && !options.full && base_->layers.size() < kMostLayers) parent = {base_->machine, base_->tag, base_->id};
  Result<Keeper::Files> files = keeper_.begin(options.tag, parent);
  if (!files) return files.error();
  const bool may_be_incremental = files->layers_below != 0;
  Result<std::vector<Keeper::Overlay>> overlays = make_overlays();
  if (!overlays) {
    keeper_.abort();
    return overlays.error();
  }
  {
    std::unique_lock lock(mutex_);
    taken_ = false;
    const auto shared = std::make_shared<std::vector<Keeper::Overlay>>(*std::move(overlays));
    machine_.while_stopped([this, may_be_incremental, shared] { take(may_be_incremental, std::move(*shared)); });
    changed_.wait(lock, [this] { return taken_ || ended_; });
    if (!taken_) {
      keeper_.abort();
      return Error{"the machine ended before the snapshot was taken"};
    }
  }
  // Whatever comes of the snapshot, the disks are in their new layers.
  if (Result<void> told = keeper_.taken(instant_.disks); instant_.result && !told) instant_.result = told;
  if (!instant_.result) {
    base_.reset();
    keeper_.abort();
    return instant_.result.error();
  }
  if (may_be_incremental && !instant_.incremental) files = keeper_.begin(options.tag, std::nullopt);
  // Processors wait for the capture's end, so there must be one.
  if (!files) static_cast<void>(capture_.write([&](auto...) { return Result<void>(files.error()); }).ok());
  Result<CreateReport> report = files ? write(options, *files) : Result<CreateReport>(files.error());
  if (!report) {
    // What has changed since the last one is no longer known.
    base_.reset();
    keeper_.abort();
  }
  return report;
}

Result<CreateReport> Snapshotter::write(const CreateOptions& options, const Keeper::Files& files) {
  Manifest manifest = description_;
  manifest.tag = options.tag;
  manifest.id = random_id();
  manifest.created = instant_.time;
  manifest.version = version();
  if (base_ && base_->machine == manifest.machine) {
    manifest.ancestors = base_->ancestors;
    manifest.ancestors.insert(manifest.ancestors.begin(), base_->tag);
  }
  if (instant_.incremental) manifest.layers = base_->layers;

  LayerWriter layer(files.ram.get(), files.sums.get(), manifest.memory_bytes, !instant_.incremental);
  Result<void> written = layer.begin();
  // Even after an error, for processors wait for the capture's end.
  const Result<void> captured = capture_.write([&](std::uint64_t page, std::span<const std::byte> contents) {
    ++pages_done_;
    return written ? layer.page(page, contents) : written;
  });
  if (!captured) return captured.error();
  Result<Manifest::File> sums = layer.finish();
  if (!sums) return sums.error();
  manifest.layers.push_back(*sums);
  manifest.stored_bytes = layer.stored_bytes();

  Result<std::vector<Manifest::Disk>> disks = keeper_.disks();
  if (!disks) return disks.error();
  manifest.disks = *std::move(disks);

  Result<Manifest::File> clock = write_blob(files.clock, instant_.state.clock);
  if (!clock) return clock.error();
  manifest.clock = *clock;
  Result<Manifest::File> components = write_blob(files.components, instant_.state.components);
  if (!components) return components.error();
  manifest.components = *components;
  const std::string text = format_manifest(manifest);
  if (Result<Manifest::File> said = write_blob(files.manifest, std::as_bytes(std::span{text})); !said) {
    return said.error();
  }
  if (Result<void> committed = keeper_.commit(); !committed) return committed.error();
  log::info("snapshot", "{}: the guest stood still for {} us; {} KiB written", manifest.tag,
            std::chrono::duration_cast<std::chrono::microseconds>(instant_.stopped).count(),
            manifest.stored_bytes >> 10);
  base_ = std::move(manifest);
  return CreateReport{instant_.stopped, base_->stored_bytes, instant_.incremental};
}

}  // namespace doppel::snapshot
