// doppel image build
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <deque>
#include <fstream>
#include <utility>

#include "boot/embedded_guest.h"
#include "cli/agent_script.h"
#include "cli/exit_status.h"
#include "cli/image_commands.h"
#include "cli/image_store.h"
#include "cli/message.h"
#include "cli/progress_bar.h"
#include "cli/tool.h"
#include "storage/open.h"
#include "storage/operations/copy.h"
#include "storage/operations/new_image.h"

namespace doppel::cli {
namespace {

constexpr std::uint64_t kSmallestDisk = std::uint64_t{1} << 30;
constexpr std::uint64_t kSizeStep = std::uint64_t{1} << 20;
constexpr std::size_t kLinesOfFailure = 15;
/// systemd-resolved has been a package of its own since bookworm.
constexpr const char* kPackages =
    "linux-image-cloud-amd64,initramfs-tools,systemd-sysv,systemd-resolved,udev,dbus,kmod,iproute2,iputils-ping,login,"
    "passwd,less,ca-certificates";
constexpr const char* kCommandLine = "root=/dev/vda rw console=ttyS0 quiet";

/// What the host lacks, with what to do about it.
Result<void> check_host() {
  struct Tool {
    const char* name;
    const char* package;
    bool for_users;  ///< root does without
  };
  constexpr std::array<Tool, 5> kTools{{{"mmdebstrap", "mmdebstrap", false},
                                        {"mke2fs", "e2fsprogs", false},
                                        {"tar", "tar", false},
                                        {"newuidmap", "uidmap", true},
                                        {"unshare", "util-linux", true}}};
  const bool root = ::geteuid() == 0;
  std::string packages;
  for (const Tool& tool : kTools) {
    if ((!tool.for_users || !root) && !has_tool(tool.name)) packages += std::string(" ") + tool.package;
  }
  if (packages.empty()) return {};
  return Error{fmt::format("building an image takes programs that are not here; on Debian: apt install{}", packages)};
}

/// Runs the parts of a build, shows how it comes along, and keeps the last lines for the case that it fails.
class Steps {
 public:
  explicit Steps(bool quiet) : quiet_(quiet) {}

  void tell(std::string_view what) const {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_).count();
    if (!quiet_) show(fmt::format("doppel: [{:3} s] {}\n", seconds, what));
  }

  Result<void> run(const std::vector<std::string>& arguments) {
    lines_.clear();
    const Result<int> status = run_tool(arguments, [this](std::string_view line) { on_line(line); });
    if (!status) return status.error();
    if (*status == 0) return {};
    std::string text = fmt::format("{} failed with status {}; it said:", arguments.front(), *status);
    for (const std::string& line : lines_) text += "\n  " + line;
    return Error{text};
  }

 private:
  using Clock = std::chrono::steady_clock;

  void on_line(std::string_view line) {
    /// Those of mmdebstrap's steps that take their time, in its words and in ours.
    constexpr auto kNews = std::to_array<std::pair<std::string_view, std::string_view>>({
        {"I: running apt-get update...", "reading the lists of packages..."},
        {"I: downloading packages with apt...", "downloading packages..."},
        {"I: extracting archives...", "unpacking..."},
        {"I: installing essential packages...", "installing essential packages..."},
        {"I: installing remaining packages inside the chroot...", "installing packages..."},
        {"I: creating tarball...", "packing..."},
    });
    const auto* const news = std::ranges::find(kNews, line, &std::pair<std::string_view, std::string_view>::first);
    if (news != kNews.end()) tell(news->second);
    lines_.emplace_back(line);
    if (lines_.size() > kLinesOfFailure) lines_.pop_front();
  }

  const bool quiet_;
  const Clock::time_point started_ = Clock::now();
  std::deque<std::string> lines_;
};

class DebianBuild {
 public:
  DebianBuild(const ImageOptions& options, std::uint64_t size, std::string directory)
      : options_(options), size_(size), directory_(std::move(directory)), steps_(options.quiet) {}

  Result<StoredImage> run(const std::string& name) {
    if (auto done = bootstrap(); !done) return done.error();
    steps_.tell("making the file system...");
    if (auto done = pack(); !done) return done.error();
    steps_.tell("writing the disk image...");
    if (auto done = write_disk(); !done) return done.error();
    std::ifstream release(directory_ + "/release");
    std::string version, kernel;
    std::getline(release, version);
    std::getline(release, kernel);
    ::unlink((directory_ + "/release").c_str());
    return StoredImage{.name = name,
                       .directory = {},
                       .description = fmt::format("Debian {} ({}), Linux {}", version, options_.suite, kernel),
                       .command_line = kCommandLine,
                       .size = size_,
                       .created = static_cast<std::int64_t>(std::time(nullptr))};
  }

  void tell(std::string_view what) const { steps_.tell(what); }

 private:
  Result<void> bootstrap() {
    const boot::DebianRecipe recipe = boot::debian_recipe();
    const std::string agent = directory_ + "/install-agent";
    const std::string shares = directory_ + "/shares";
    const std::string script = agent_script();
    if (auto written = write_file_atomically(agent, std::as_bytes(std::span{script})); !written) return written;
    if (auto written = write_file_atomically(shares, recipe.shares); !written) return written;
    std::vector<std::string> command{
        "mmdebstrap", ::geteuid() == 0 ? "--mode=root" : "--mode=unshare", "--variant=minbase",
        fmt::format("--include={}", kPackages), "--aptopt=Apt::Install-Recommends \"false\"",
        // The image is synced as a whole in the end; guest/debian/customize takes this out of it again.
        "--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--customize-hook=mkdir -p \"$1/usr/local/lib/doppel\"",
        fmt::format("--customize-hook=upload {} /usr/local/lib/doppel/install-agent", quoted(agent)),
        fmt::format("--customize-hook=upload {} /usr/local/lib/doppel/shares", quoted(shares)),
        "--customize-hook=" + std::string(recipe.customize)};
    for (const std::string& packages : options_.include) command.push_back("--include=" + packages);
    command.push_back(options_.suite);
    command.push_back(directory_ + "/root.tar");
    command.insert(command.end(), options_.mirrors.begin(), options_.mirrors.end());
    auto done = steps_.run(command);
    ::unlink(agent.c_str());
    ::unlink(shares.c_str());
    return done;
  }

  Result<void> pack() {
    std::vector<std::string> command{"sh",   "-c",       std::string(boot::debian_recipe().pack),
                                     "pack", directory_, std::to_string(size_)};
    // The files belong to many users: a namespace gives a user those of /etc/subuid, and makes it their root.
    if (::geteuid() != 0) command.insert(command.begin(), {"unshare", "--map-root-user", "--map-auto", "--"});
    return steps_.run(command);
  }

  Result<void> write_disk() const {
    const std::string raw = directory_ + "/disk.raw";
    auto source = storage::open_image(raw, {.format = "raw"});
    if (!source) return source.error();
    storage::NewImageOptions made;
    made.format = storage::ImageFormat::Qcow2;
    made.qcow2.size = size_;
    auto target = storage::NewImage::create(directory_ + "/disk.qcow2", made);
    if (!target) return target.error();
    {
      ProgressBar bar("writing", options_.quiet);
      const auto copied = storage::copy_image(
          **source, *target->image(), {}, [&bar](std::uint64_t done, std::uint64_t total) { bar.show(done, total); });
      if (!copied) return copied.error();
    }
    if (auto finished = target->finish(); !finished) return finished;
    ::unlink(raw.c_str());
    return {};
  }

  /// For the shell-like words of mmdebstrap's own hooks.
  static std::string quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
  }

  const ImageOptions& options_;
  const std::uint64_t size_;
  const std::string directory_;
  Steps steps_;
};

/// An image of that name may be replaced if the user says so, but not under the disks that stand on it.
Result<void> check_replaceable(const ImageStore& store, const std::string& name, bool force) {
  const Result<std::optional<StoredImage>> found = store.find(name);
  if (!found) return force ? Result<void>() : Result<void>(found.error());
  if (!*found) return {};
  if (!force) return Error{fmt::format("there is an image {} already: give --force to replace it, or --name", name)};
  const std::vector<std::string> machines = (*found)->machine_names();
  if (machines.empty()) return {};
  return Error{
      fmt::format("machines keep disks that stand on the image {}: remove them with doppel image remove {}/{}, "
                  "or give the new one another --name",
                  name, name, machines.front())};
}

}  // namespace

int image_build(const ImageOptions& options) {
  if (options.file != "debian") {
    return image_failure(Error{fmt::format("cannot build {}: there is debian", options.file)});
  }
  const std::string name = options.name.empty() ? options.file : options.name;
  if (const auto good = check_image_name(name); !good) return image_failure(good.error());
  const auto size = storage::parse_bytes(options.disk_size);
  if (!size) return image_failure(Error{"--size: " + size.error().message});
  if (*size < kSmallestDisk) return image_failure(Error{"--size: a Debian needs 1G or more"});
  const Result<ImageStore> store = ImageStore::open();
  if (!store) return image_failure(store.error());
  if (const auto free = check_replaceable(*store, name, options.force); !free) return image_failure(free.error());
  if (const auto able = check_host(); !able) return image_failure(able.error());
  Result<ImageStage> stage = store->stage();
  if (!stage) return image_failure(stage.error());
  DebianBuild build(options, *size / kSizeStep * kSizeStep, stage->directory());
  const Result<StoredImage> image = build.run(name);
  if (!image) return image_failure(image.error());
  if (const auto published = store->publish(*std::move(stage), *image); !published) {
    return image_failure(published.error());
  }
  build.tell(fmt::format("{} is ready: doppel run {}", image->description, name));
  return exit_status::kSuccess;
}

}  // namespace doppel::cli
