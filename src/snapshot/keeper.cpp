#include "snapshot/keeper.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <sstream>
#include <utility>
#include <vector>

#include "base/packet_socket.h"
#include "base/plain_name.h"
#include "base/system_error.h"

namespace doppel::snapshot {
namespace {

constexpr std::size_t kFiles = 5;
constexpr std::string_view kOk = "ok";

/// One machine's wishes.
class Service {
 public:
  Service(int socket, const Store& store, const std::optional<KeptDisks>& disks,
          const std::function<void(const std::string&)>& on_bound)
      : socket_(socket), store_(store), on_bound_(on_bound) {
    if (disks) {
      disk_store_ = disks->store;
      places_ = disks->places;
    }
  }

  void run() {
    while (const std::optional<Packet> packet = receive_packet(socket_)) {
      std::istringstream words(packet->text);
      std::string verb;
      words >> verb;
      std::vector<int> files;
      const Result<std::string> done = answer(verb, words, files);
      if (!done) files.clear();
      const std::string text = done ? fmt::format("ok {}", *done) : "error " + done.error().message;
      const bool sent = send_packet(socket_, text, files);
      overlays_.clear();
      if (!sent) return;
    }
  }

 private:
  Result<std::string> answer(const std::string& verb, std::istringstream& words, std::vector<int>& files) {
    if (verb == "bind") {
      if (!machine_.empty()) return Error{"a keeper serves one machine"};
      words >> machine_;
      if (!is_plain_name(machine_)) return Error{"the machine has no proper name"};
      if (on_bound_) on_bound_(machine_);
      return std::string();
    }
    if (machine_.empty()) return Error{"the keeper does not know whom it serves"};
    if (verb == "begin") return begin(words, files);
    if (verb == "overlays") return make_overlays(files);
    if (verb == "taken") return taken(words);
    if (verb == "disks") return give_disks();
    if (verb == "commit") return commit();
    if (verb == "abort") {
      draft_.reset();
      return std::string();
    }
    return Error{"a keeper does not know \"" + verb + "\""};
  }

  Result<std::string> begin(std::istringstream& words, std::vector<int>& files) {
    std::string tag;
    Store::Parent parent;
    words >> tag >> parent.machine >> parent.tag >> parent.id;
    draft_.reset();
    const bool has_parent = is_plain_name(parent.machine) && is_plain_name(parent.tag) && is_plain_name(parent.id);
    Result<Draft> draft = store_.begin(machine_, tag, has_parent ? std::optional(parent) : std::nullopt);
    if (!draft) return draft.error();
    draft_.emplace(*std::move(draft));
    files = {draft_->manifest.get(), draft_->clock.get(), draft_->components.get(), draft_->ram.get(),
             draft_->sums.get()};
    return std::to_string(draft_->layers_below);
  }

  Result<std::string> make_overlays(std::vector<int>& files) {
    next_.clear();
    std::string numbers;
    for (const DiskPlace& place : places_) {
      if (place.disk.read_only) continue;
      Result<std::string> next = disk_store_->make_next(place);
      if (!next) return next.error();
      const std::string path = place.directory + "/" + *next;
      UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
      if (!fd.valid()) return system_error("cannot open " + path);
      next_.push_back(*std::move(next));
      overlays_.push_back(std::move(fd));
      // Not every file system has O_DIRECT: the host's cache then stays, as when the machine was started.
      UniqueFd direct(place.disk.direct ? ::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC | O_NOFOLLOW) : -1);
      numbers += direct.valid() ? "2 " : "1 ";
      if (direct.valid()) overlays_.push_back(std::move(direct));
    }
    for (const UniqueFd& fd : overlays_) files.push_back(fd.get());
    return numbers;
  }

  Result<std::string> taken(std::istringstream& words) {
    std::size_t disks = 0;
    words >> disks;
    frozen_ = places_;
    auto next = next_.begin();
    for (DiskPlace& place : places_) {
      if (place.disk.read_only) continue;
      if (next == next_.end() || disks-- == 0) break;
      place.advance(*next++);
    }
    next_.clear();
    return std::string();
  }

  Result<std::string> give_disks() {
    if (!draft_) return Error{"no snapshot has been begun"};
    std::vector<Manifest::Disk> disks;
    for (const DiskPlace& place : frozen_) {
      Result<Manifest::Disk> disk = disk_store_->give(place, draft_->directory());
      if (!disk) return disk.error();
      disks.push_back(*std::move(disk));
    }
    return format_disks(disks);
  }

  Result<std::string> commit() {
    if (!draft_) return Error{"no snapshot has been begun"};
    const Result<void> committed = store_.commit(*draft_);
    draft_.reset();
    if (!committed) return committed.error();
    return std::string();
  }

  const int socket_;
  const Store& store_;
  const std::function<void(const std::string&)>& on_bound_;
  std::string machine_;
  std::optional<Draft> draft_;
  std::optional<DiskStore> disk_store_;
  std::vector<DiskPlace> places_;   ///< as the machine writes them
  std::vector<DiskPlace> frozen_;   ///< as they were at the last instant
  std::vector<std::string> next_;   ///< of those that are written: layers that wait for the instant
  std::vector<UniqueFd> overlays_;  ///< on their way to the machine
};

}  // namespace

void serve_keeper(int socket, const Store& store, const std::optional<KeptDisks>& disks,
                  const std::function<void(const std::string&)>& on_bound) {
  Service(socket, store, disks, on_bound).run();
}

Result<std::string> Keeper::ask(const std::string& request, std::vector<UniqueFd>* files) {
  if (!send_packet(socket_, request, {})) return system_error("cannot reach the keeper of the machine's snapshots");
  std::optional<Packet> answer = receive_packet(socket_);
  if (!answer) return Error{"the keeper of the machine's snapshots is gone"};
  if (!answer->text.starts_with(kOk)) {
    const std::size_t space = answer->text.find(' ');
    return Error{space == std::string::npos ? answer->text : answer->text.substr(space + 1)};
  }
  if (files != nullptr) *files = std::move(answer->files);
  return answer->text.substr(kOk.size());
}

Result<void> Keeper::bind(const std::string& machine) {
  const Result<std::string> answer = ask("bind " + machine, nullptr);
  return answer ? Result<void>() : answer.error();
}

Result<Keeper::Files> Keeper::begin(const std::string& tag, const std::optional<Store::Parent>& parent) {
  if (!is_plain_name(tag)) {
    return Error{
        fmt::format("\"{}\" cannot be a snapshot's name: use up to {} letters, digits, '-', '_' and '.', "
                    "beginning with a letter or digit",
                    tag, kMaxPlainName)};
  }
  std::vector<UniqueFd> files;
  const Result<std::string> answer =
      ask(parent ? fmt::format("begin {} {} {} {}", tag, parent->machine, parent->tag, parent->id) : "begin " + tag,
          &files);
  if (!answer) return answer.error();
  if (files.size() != kFiles) return Error{"the keeper of the machine's snapshots has no files left"};
  Files opened{std::move(files[0]), std::move(files[1]), std::move(files[2]), std::move(files[3]), std::move(files[4])};
  std::istringstream(*answer) >> opened.layers_below;
  return opened;
}

Result<std::vector<Keeper::Overlay>> Keeper::overlays() {
  std::vector<UniqueFd> files;
  const Result<std::string> answer = ask("overlays", &files);
  if (!answer) return answer.error();
  std::vector<Overlay> overlays;
  std::istringstream numbers(*answer);
  auto next = files.begin();
  for (std::ptrdiff_t number = 0; numbers >> number && number <= files.end() - next && number > 0; next += number) {
    overlays.push_back({std::move(*next), number > 1 ? std::move(*(next + 1)) : UniqueFd()});
  }
  return overlays;
}

Result<void> Keeper::taken(std::size_t disks) {
  const Result<std::string> answer = ask(fmt::format("taken {}", disks), nullptr);
  return answer ? Result<void>() : answer.error();
}

Result<std::vector<Manifest::Disk>> Keeper::disks() {
  const Result<std::string> answer = ask("disks", nullptr);
  if (!answer) return answer.error();
  return parse_disks(*answer);
}

Result<void> Keeper::commit() {
  const Result<std::string> answer = ask("commit", nullptr);
  return answer ? Result<void>() : answer.error();
}

void Keeper::abort() {
  static_cast<void>(ask("abort", nullptr));
}

}  // namespace doppel::snapshot
