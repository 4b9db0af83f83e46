#include "cli/image.h"

#include <CLI/CLI.hpp>

#include "cli/image_commands.h"

namespace doppel::cli {
namespace {

constexpr const char* kImageHelp = R"(
Formats are raw and qcow2 (versions 2 and 3). Commands, options and JSON are those of qemu-img, where both have them.

Examples:
  doppel image create -f qcow2 disk.qcow2 20G
  doppel image create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2
  doppel image convert -c -O qcow2 -o compression_type=zstd disk.raw disk.qcow2
  doppel image check -r all disk.qcow2
  doppel image resize disk.qcow2 +5G
  doppel image build debian --include nginx,curl       then: doppel run debian)";

constexpr const char* kCreateHelp = R"(
SIZE is in bytes or has a unit of K, M, G or T; it may be left out with a backing file, whose size is then taken.
Options for -o, separated by commas: cluster_size=512..2M, compat=0.10|1.1, compression_type=zlib|zstd,
extended_l2=on|off, lazy_refcounts=on|off, preallocation=off|metadata|falloc|full, refcount_bits=1..64,
backing_file=FILE, backing_fmt=FORMAT.)";

constexpr const char* kCheckHelp = R"(
Exit status: 0 no errors (or all repaired), 1 the check could not be done, 2 the image is corrupt, 3 it has leaked
clusters, which only waste space.)";

constexpr const char* kBuildHelp = R"(
Makes a Debian out of its packages: a disk, a kernel and an initrd, for doppel run debian. The image itself is never
written by a machine. Takes mmdebstrap; without root also uidmap, and a range for the user in /etc/subuid and subgid.

Examples:
  doppel image build debian
  doppel image build debian --name web --include nginx,postgresql,gcc --size 20G
  doppel image build debian --suite trixie --name trixie)";

constexpr const char* kRemoveHelp = R"(
NAME is an image, or IMAGE/MACHINE: what a machine that was started by that name has written.)";

class ImageCommands {
 public:
  explicit ImageCommands(std::function<int()>& action) : action_(action) {}

  void add(CLI::App& app) {
    CLI::App* const image = app.add_subcommand("image", "create, examine, convert and repair disk images");
    image->footer(kImageHelp);
    image->require_subcommand(1);
    add_create(*image);
    add_info(*image);
    add_check(*image);
    add_convert(*image);
    add_map(*image);
    add_resize(*image);
    add_commit(*image);
    add_rebase(*image);
    add_build(*image);
    add_list(*image);
    add_remove(*image);
    for (CLI::App* const command : image->get_subcommands({})) {
      command->set_help_flag("-h,--help", "print this help");
      command->add_flag("-q,--quiet", options_.quiet, "say nothing but errors");
    }
  }

 private:
  CLI::App* command(CLI::App& image, const char* name, const char* description, int (*act)(const ImageOptions&)) {
    CLI::App* const added = image.add_subcommand(name, description);
    added->callback([this, act] { action_ = [this, act] { return act(options_); }; });
    return added;
  }
  void file(CLI::App* command, const char* description) {
    command->add_option("FILE", options_.file, description)->type_name("")->required();
  }
  void format(CLI::App* command) {
    command->add_option("-f,--format", options_.format, "the image's format; by its contents if not given")
        ->type_name("raw|qcow2");
  }
  void creation(CLI::App* command) {
    command->add_option("-o,--options", options_.creation, "options of the new image")
        ->type_name("NAME=VALUE,…")
        ->allow_extra_args(false);
  }
  void backing(CLI::App* command, const char* flags, const char* description) {
    command->add_option(flags, options_.backing, description)->type_name("FILE");
    command->add_option("-F,--backing-format", options_.backing_format, "the backing file's format")
        ->type_name("raw|qcow2");
  }
  void json(CLI::App* command) {
    command->add_flag("--json", options_.json, "as JSON");
    command->add_option("--output", options_.output, "the same in other words")
        ->type_name("human|json")
        ->check(CLI::IsMember({"human", "json"}));
  }
  void force_share(CLI::App* command) {
    command->add_flag("-U,--force-share", options_.force_share,
                      "also while others write to it; what is read may be torn");
  }
  /// Progress shows by itself where somebody can see it.
  void progress(CLI::App* command) {
    command->add_flag("-p,--progress", ignored_, "show progress; that is so anyway when standard error is a terminal");
  }

  void add_create(CLI::App& image) {
    CLI::App* const create = command(image, "create", "make an empty image", image_create);
    create->footer(kCreateHelp);
    file(create, "the new image");
    create->add_option("SIZE", options_.second, "how large the disk is to be")->type_name("");
    create->add_option("-f,--format", options_.format, "the new image's format; default: raw, as with qemu-img")
        ->type_name("raw|qcow2");
    backing(create, "-b,--backing", "what shows through where the new image was not written");
    creation(create);
  }
  void add_info(CLI::App& image) {
    CLI::App* const info = command(image, "info", "say what an image is", image_info);
    file(info, "the image");
    format(info);
    json(info);
    force_share(info);
    info->add_flag("--backing-chain", options_.backing_chain, "all images of the chain");
  }
  void add_check(CLI::App& image) {
    CLI::App* const check = command(image, "check", "look for errors in a qcow2 image's structure", image_check);
    check->footer(kCheckHelp);
    file(check, "the image");
    format(check);
    json(check);
    force_share(check);
    progress(check);
    check->add_option("-r,--repair", options_.repair, "repair leaked clusters, or all that can be repaired")
        ->type_name("leaks|all")
        ->check(CLI::IsMember({"leaks", "all"}));
  }
  void add_convert(CLI::App& image) {
    CLI::App* const convert = command(image, "convert", "copy a disk into a new image", image_convert);
    convert->add_option("SOURCE", options_.file, "the image to copy")->type_name("")->required();
    convert->add_option("TARGET", options_.second, "the new image")->type_name("")->required();
    format(convert);
    convert->add_option("-O,--output-format", options_.output_format, "the new image's format; default: raw")
        ->type_name("raw|qcow2");
    convert->add_flag("-c,--compress", options_.compress, "compress the data (qcow2)");
    backing(convert, "-B,--backing", "leave out what this backing file of the new image shows already");
    creation(convert);
    convert->add_option("-S,--sparse", options_.sparse_size, "leave out zeros that come this many at a time; 0: none")
        ->type_name("SIZE")
        ->capture_default_str();
    convert->add_flag("-n,--no-create", options_.no_create, "write into TARGET, an image that is there already");
    force_share(convert);
    progress(convert);
  }
  void add_map(CLI::App& image) {
    CLI::App* const map = command(image, "map", "list where the parts of a disk are", image_map);
    file(map, "the image");
    format(map);
    json(map);
    force_share(map);
  }
  void add_resize(CLI::App& image) {
    CLI::App* const resize = command(image, "resize", "change a disk's size", image_resize);
    resize->footer(
        "\nSIZE is the new size, or with + or - before it the difference. The guest's partitions stay as they are.");
    file(resize, "the image");
    resize->add_option("SIZE", options_.second, "the new size, or the difference")->type_name("")->required();
    format(resize);
    resize->add_flag("--shrink", options_.shrink, "permit a smaller size; what lies beyond is lost");
  }
  void add_commit(CLI::App& image) {
    CLI::App* const commit =
        command(image, "commit", "write an overlay's contents into its backing file", image_commit);
    file(commit, "the overlay");
    format(commit);
    commit->add_option("-b,--base", options_.backing, "the backing file to write to; default: the next one")
        ->type_name("FILE");
    commit->add_flag("-d,--keep", options_.keep, "leave the overlay as it is, instead of emptying it");
    progress(commit);
  }
  void add_rebase(CLI::App& image) {
    CLI::App* const rebase = command(image, "rebase", "give an overlay another backing file", image_rebase);
    rebase->footer(
        "\nThe disk keeps its contents: what the new backing file has otherwise is copied. With -b '' it gets "
        "none and\nstands alone. With -u only the name is changed.");
    file(rebase, "the overlay");
    format(rebase);
    backing(rebase, "-b,--backing", "the new backing file; '' for none");
    rebase->add_flag("-u,--unsafe", options_.unsafe, "change the name only, without a look at any contents");
    progress(rebase);
  }
  void add_build(CLI::App& image) {
    CLI::App* const build = command(image, "build", "make an image of a distribution, for doppel run", image_build);
    build->footer(kBuildHelp);
    build->add_option("DISTRIBUTION", options_.file, "debian")->type_name("")->required();
    build->add_option("--suite", options_.suite, "the release")->type_name("SUITE")->capture_default_str();
    build->add_option("--include", options_.include, "more packages, separated by commas")
        ->type_name("PACKAGE[,…]")
        ->allow_extra_args(false);
    build->add_option("--size", options_.disk_size, "how large the disk is; it takes no space before it is used")
        ->type_name("SIZE")
        ->capture_default_str();
    build->add_option("--name", options_.name, "the image's name; default: the distribution's")->type_name("NAME");
    build
        ->add_option("--mirror", options_.mirrors,
                     "where packages come from: a URL, or a line of sources.list; repeat for several")
        ->type_name("URL")
        ->allow_extra_args(false);
    build->add_flag("--force", options_.force, "replace an image of that name");
  }
  void add_list(CLI::App& image) {
    CLI::App* const list = command(image, "list", "list the images that were built", image_list);
    json(list);
  }
  void add_remove(CLI::App& image) {
    CLI::App* const remove = command(image, "remove", "remove images that were built", image_remove);
    remove->footer(kRemoveHelp);
    remove->add_option("NAME", options_.names, "what to remove")->type_name("")->required();
    remove->add_flag("--force", options_.force, "also what machines keep on it");
  }

  std::function<int()>& action_;
  ImageOptions options_;
  bool ignored_ = false;
};

}  // namespace

std::shared_ptr<void> add_image_commands(CLI::App& app, std::function<int()>& action) {
  auto commands = std::make_shared<ImageCommands>(action);
  commands->add(app);
  return commands;
}

}  // namespace doppel::cli
