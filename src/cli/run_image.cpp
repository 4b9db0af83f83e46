#include "cli/run_image.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "cli/image_store.h"
#include "cli/option_list.h"
#include "control/registry.h"
#include "storage/operations/new_image.h"

namespace doppel::cli {
namespace {

constexpr const char* kSerial = "root";

/// An overlay over the image's disk, named relative to it so that the store can be moved.
Result<void> make_machine_disk(const StoredImage& image, const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(image.machines(), error);
  if (error) return Error{fmt::format("cannot create {}: {}", image.machines(), error.message())};
  storage::NewImageOptions made;
  made.format = storage::ImageFormat::Qcow2;
  made.qcow2.size = image.size;
  made.qcow2.backing_file = "../disk.qcow2";
  made.qcow2.backing_format = "qcow2";
  auto overlay = storage::NewImage::create(path, made);
  if (!overlay) return overlay.error();
  return overlay->finish();
}

}  // namespace

Result<std::optional<ImageRun>> resolve_image(const RunOptions& options) {
  const std::optional<ImageRun> none;
  if (options.kernel.empty() || options.kernel.find('/') != std::string::npos) return none;
  const Result<ImageStore> store = ImageStore::open();
  if (!store) return none;
  const Result<std::optional<StoredImage>> found = store->find(options.kernel);
  if (!found) return found.error();
  if (!*found) {
    if (::access(options.kernel.c_str(), F_OK) == 0) return none;
    if (options.kernel == "debian") return Error{"there is no image debian yet: doppel image build debian makes one"};
    return Error{fmt::format("there is neither an image nor a file {}; see doppel image list", options.kernel)};
  }
  const StoredImage& image = **found;
  ImageRun run{.options = options, .keeps = !options.name.empty() && !options.temporary};
  if (run.keeps) {
    if (const auto good = control::check_vm_name(options.name); !good) return Error{"--name: " + good.error().message};
  }
  RunOptions& machine = run.options;
  machine.command.reset();
  machine.kernel = image.kernel();
  if (machine.initrds.empty()) machine.initrds = {image.initrd()};
  machine.append = image.command_line;
  if (options.console == "virtio") *machine.append += " console=hvc0";
  if (options.append) *machine.append += " " + *options.append;
  const std::string& host_name = options.hostname.empty() ? options.name : options.hostname;
  if (!host_name.empty()) *machine.append += " systemd.hostname=" + host_name;
  if (machine.nets.empty()) machine.nets = {"user"};
  std::string disk = OptionList::escape(image.disk()) + ",snapshot";
  if (run.keeps) {
    const std::string path = image.machine_disk(options.name);
    if (::access(path.c_str(), F_OK) != 0) {
      if (const auto made = make_machine_disk(image, path); !made) return made.error();
    }
    disk = OptionList::escape(path);
  }
  machine.disks.insert(machine.disks.begin(), fmt::format("{},format=qcow2,serial={}", disk, kSerial));
  return std::optional<ImageRun>(std::move(run));
}

}  // namespace doppel::cli
