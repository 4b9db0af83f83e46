// doppel image list, remove
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "base/system_error.h"
#include "cli/exit_status.h"
#include "cli/image_commands.h"
#include "cli/image_store.h"
#include "cli/message.h"
#include "cli/units.h"
#include "snapshot/store.h"
#include "storage/host_file.h"

namespace doppel::cli {
namespace {

using nlohmann::json;

std::uint64_t bytes_on_disk(const std::string& path) {
  constexpr std::uint64_t kStatBlock = 512;
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * kStatBlock : 0;
}

json describe(const StoredImage& image) {
  json machines = json::array();
  for (const std::string& machine : image.machine_names()) {
    machines.push_back({{"name", machine}, {"bytes_on_disk", bytes_on_disk(image.machine_disk(machine))}});
  }
  return {{"name", image.name},       {"description", image.description},
          {"size", image.size},       {"bytes_on_disk", bytes_on_disk(image.disk())},
          {"created", image.created}, {"directory", image.directory},
          {"machines", machines}};
}

void print_row(std::string_view name, std::string_view size, std::string_view on_disk, std::string_view age,
               std::string_view description) {
  fmt::print("{:<20} {:>8} {:>8} {:>8}  {}\n", name, size, on_disk, age, description);
}

/// Mebibytes, because nobody looks at an image's bytes.
std::string rounded(std::uint64_t bytes) {
  constexpr std::uint64_t kMebi = std::uint64_t{1} << 20;
  return format_size((bytes + kMebi - 1) / kMebi * kMebi);
}

Result<void> remove_machine_disk(const StoredImage& image, const std::string& machine) {
  const std::string path = image.machine_disk(machine);
  if (::access(path.c_str(), F_OK) != 0)
    return Error{fmt::format("the image {} has no machine {}", image.name, machine)};
  // Whoever writes it has it locked.
  const auto file = storage::HostFile::open(path, {});
  if (!file) return file.error();
  if (::unlink(path.c_str()) != 0) return system_error("cannot remove " + path);
  if (const Result<snapshot::Store> snapshots = snapshot::Store::of_user()) snapshots->disks().forget(path);
  return {};
}

Result<void> remove_named(const ImageStore& store, const std::string& name, bool force) {
  const std::size_t slash = name.find('/');
  const std::string image_name = name.substr(0, slash);
  Result<std::optional<StoredImage>> found = store.find(image_name);
  if (!found && !force) return Error{found.error().message + "; --force"};
  if (found && !*found) return Error{fmt::format("there is no image {}; see doppel image list", image_name)};
  const StoredImage image = found ? **found : StoredImage{.name = image_name, .directory = store.path_of(image_name)};
  if (slash != std::string::npos) return remove_machine_disk(image, name.substr(slash + 1));
  const std::vector<std::string> machines = image.machine_names();
  if (!machines.empty() && !force) {
    return Error{fmt::format("machines keep disks that stand on {} ({}/{} and so on): give --force to remove them too",
                             image_name, image_name, machines.front())};
  }
  return store.remove(image);
}

}  // namespace

int image_list(const ImageOptions& options) {
  const Result<ImageStore> store = ImageStore::open();
  if (!store) return image_failure(store.error());
  const Result<std::vector<StoredImage>> images = store->list();
  if (!images) return image_failure(images.error());
  if (options.wants_json()) {
    json all = json::array();
    for (const StoredImage& image : *images) all.push_back(describe(image));
    fmt::print("{}\n", all.dump(2));
    return exit_status::kSuccess;
  }
  if (images->empty()) {
    if (!options.quiet) show("doppel: no images yet: doppel image build debian makes one\n");
    return exit_status::kSuccess;
  }
  print_row("NAME", "SIZE", "ON DISK", "AGE", "CONTENTS");
  const auto now = static_cast<std::int64_t>(std::time(nullptr));
  for (const StoredImage& image : *images) {
    print_row(image.name, format_size(image.size), rounded(bytes_on_disk(image.disk())),
              format_age(now - image.created), image.description);
    for (const std::string& machine : image.machine_names()) {
      print_row(image.name + "/" + machine, "", rounded(bytes_on_disk(image.machine_disk(machine))), "",
                "what the machine " + machine + " has written");
    }
  }
  return exit_status::kSuccess;
}

int image_remove(const ImageOptions& options) {
  const Result<ImageStore> store = ImageStore::open();
  if (!store) return image_failure(store.error());
  int status = exit_status::kSuccess;
  for (const std::string& name : options.names) {
    if (const auto removed = remove_named(*store, name, options.force); !removed) {
      status = image_failure(removed.error());
    }
  }
  return status;
}

}  // namespace doppel::cli
