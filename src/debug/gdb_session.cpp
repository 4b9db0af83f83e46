#include "debug/gdb_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "debug/hex.h"
#include "debug/monitor.h"
#include "debug/packet_stream.h"

namespace doppel::debug {
namespace {

// Error numbers, as errno has them; GDB shows them only.
constexpr unsigned kNotPermitted = 1, kBadAddress = 14, kInvalid = 22, kNoSpace = 28;

constexpr unsigned kSigint = 2, kSigtrap = 5, kSigabrt = 6;

/// Memory replies are two digits a byte.
constexpr std::uint64_t kMaxMemory = PacketStream::kMaxPacket / 2;

std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_range(std::string_view text) {
  const auto address = number_from_hex(cut(text, ','));
  const auto length = number_from_hex(text);
  if (!address || !length) return std::nullopt;
  return std::pair{*address, *length};
}

/// A piece of a document, as qXfer wants it: `l` before the last, `m` before others.
std::string document_piece(const std::string& document, std::uint64_t offset, std::uint64_t length) {
  if (offset >= document.size()) return "l";
  length = std::min<std::uint64_t>(length, PacketStream::kMaxPacket / 2);
  const std::string piece = document.substr(offset, length);
  return (offset + piece.size() < document.size() ? "m" : "l") + piece;
}

}  // namespace

/// Longer names first where one begins another.
const GdbSession::Command GdbSession::kCommands[] = {
    {"qSupported", &GdbSession::query_supported},
    {"QStartNoAckMode", &GdbSession::no_acknowledge_mode},
    {"qAttached", &GdbSession::attached},
    {"qC", &GdbSession::current_thread},
    {"qfThreadInfo", &GdbSession::first_threads},
    {"qsThreadInfo", &GdbSession::more_threads},
    {"qThreadExtraInfo,", &GdbSession::thread_information},
    {"qXfer:features:read:", &GdbSession::read_features},
    {"qRcmd,", &GdbSession::monitor},
    {"vCont?", &GdbSession::resume_actions_query},
    {"vCont;", &GdbSession::resume_actions},
    {"vKill;", &GdbSession::kill_process},
    {"H", &GdbSession::select_thread},
    {"T", &GdbSession::thread_alive},
    {"?", &GdbSession::stop_reason},
    {"g", &GdbSession::read_registers},
    {"G", &GdbSession::write_registers},
    {"p", &GdbSession::read_register},
    {"P", &GdbSession::write_register},
    {"m", &GdbSession::read_memory},
    {"M", &GdbSession::write_memory},
    {"X", &GdbSession::write_memory_binary},
    {"Z", &GdbSession::insert_point},
    {"z", &GdbSession::remove_point},
    {"c", &GdbSession::continue_all},
    {"C", &GdbSession::continue_all},
    {"s", &GdbSession::step_one},
    {"S", &GdbSession::step_one},
    {"D", &GdbSession::detach},
    {"k", &GdbSession::kill},
};

GdbSession::GdbSession(DebugTarget& target, Output output)
    : target_(target), output_(std::move(output)), layout_(RegisterLayout::Architecture::X86_64) {
  target_.stop();
  layout_ = RegisterLayout{RegisterLayout::architecture_of(target_.registers(0))};
}

GdbSession::~GdbSession() {
  if (state_ == State::Stopped || state_ == State::Running) detach({});
}

void GdbSession::error(unsigned code) {
  output_.send(fmt::format("E{:02x}", code));
}

void GdbSession::handle_packet(std::string_view packet) {
  for (const Command& command : kCommands) {
    if (!take_prefix(packet, command.name)) continue;
    const bool ends = command.handler == &GdbSession::detach || command.handler == &GdbSession::kill ||
                      command.handler == &GdbSession::kill_process;
    // A debugger in all-stop mode waits for the stop reply; one that does not wait gets no half-truths.
    if (state_ == State::Running && !ends) return error(kNotPermitted);
    return (this->*command.handler)(packet);
  }
  output_.send("");
}

void GdbSession::interrupt() {
  if (state_ != State::Running) return;
  target_.stop();
  state_ = State::Stopped;
  last_stop_ = {Stop::Reason::Interrupted, general_vcpu_, 0};
  send_stop_reply();
}

void GdbSession::target_stopped(const Stop& stop) {
  if (stop.vcpu >= target_.vcpu_count()) return;
  if (state_ == State::Running) {
    state_ = State::Stopped;
    last_stop_ = stop;
    general_vcpu_ = stop.vcpu;
    send_stop_reply();
  } else if (state_ == State::Stopped && stop.reason == Stop::Reason::Watchpoint) {
    // The others would come again when the processor goes on.
    waiting_stops_.push_back(stop);
  }
}

void GdbSession::target_ended(int status) {
  if (state_ == State::Running) output_.send(fmt::format("W{:02x}", status & 0xFF));
  state_ = State::Killed;
}

// --- Stopping and going on ---

std::string GdbSession::stop_description() const {
  const auto point = points_.find(last_stop_);
  if (!point) return {};
  const std::string address = to_hex(last_stop_.address);
  switch (point->kind) {
    case StopPoint::Kind::SoftwareBreakpoint:
      return "swbreak:;";
    case StopPoint::Kind::HardwareBreakpoint:
      return "hwbreak:;";
    case StopPoint::Kind::WriteWatch:
      return "watch:" + address + ";";
    case StopPoint::Kind::ReadWatch:
      return "rwatch:" + address + ";";
    case StopPoint::Kind::AccessWatch:
      return "awatch:" + address + ";";
  }
  return {};
}

void GdbSession::send_stop_reply() {
  unsigned signal = kSigtrap;
  if (last_stop_.reason == Stop::Reason::Interrupted) signal = kSigint;
  if (last_stop_.reason == Stop::Reason::Shutdown) signal = kSigabrt;
  output_.send(fmt::format("T{:02x}thread:{:x};{}", signal, last_stop_.vcpu + 1, stop_description()));
}

void GdbSession::stop_reason(std::string_view) {
  send_stop_reply();
}

void GdbSession::resume(const std::vector<ResumeAction>& actions) {
  if (!waiting_stops_.empty()) {
    last_stop_ = waiting_stops_.front();
    waiting_stops_.pop_front();
    general_vcpu_ = last_stop_.vcpu;
    return send_stop_reply();
  }
  state_ = State::Running;
  target_.resume(actions, points_.all());
}

void GdbSession::resume_actions_query(std::string_view) {
  output_.send("vCont;c;C;s;S");
}

void GdbSession::resume_actions(std::string_view arguments) {
  std::vector<std::optional<ResumeAction>> chosen(target_.vcpu_count());
  while (!arguments.empty()) {
    std::string_view thread = cut(arguments, ';');
    const std::string_view verb = cut(thread, ':');
    if (verb.empty()) return error(kInvalid);
    ResumeAction action;
    // Signals mean nothing to a processor.
    if (verb[0] == 'c' || verb[0] == 'C')
      action = ResumeAction::Continue;
    else if (verb[0] == 's' || verb[0] == 'S')
      action = ResumeAction::Step;
    else
      return error(kInvalid);
    std::optional<unsigned> vcpu;
    if (!thread.empty() && !parse_thread(thread, vcpu)) return error(kInvalid);
    // The leftmost action that fits a thread is its own.
    for (unsigned i = 0; i < chosen.size(); ++i) {
      if (!chosen[i] && (!vcpu || *vcpu == i)) chosen[i] = action;
    }
  }
  std::vector<ResumeAction> actions(chosen.size());
  std::transform(chosen.begin(), chosen.end(), actions.begin(),
                 [](const auto& action) { return action.value_or(ResumeAction::Stay); });
  resume(actions);
}

void GdbSession::continue_all(std::string_view) {
  resume(std::vector<ResumeAction>(target_.vcpu_count(), ResumeAction::Continue));
}

void GdbSession::step_one(std::string_view) {
  std::vector<ResumeAction> actions(target_.vcpu_count(), ResumeAction::Stay);
  actions[general_vcpu_] = ResumeAction::Step;
  resume(actions);
}

void GdbSession::detach(std::string_view) {
  const bool was_stopped = state_ == State::Stopped;
  state_ = State::Detached;
  if (!was_stopped) target_.stop();
  target_.resume(std::vector<ResumeAction>(target_.vcpu_count(), ResumeAction::Continue), {});
  ok();
}

void GdbSession::kill(std::string_view) {
  state_ = State::Killed;
  target_.kill();
}

void GdbSession::kill_process(std::string_view) {
  ok();
  kill({});
}

// --- What we are ---

void GdbSession::query_supported(std::string_view) {
  output_.send(fmt::format("PacketSize={:x};qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+",
                           PacketStream::kMaxPacket));
}

void GdbSession::no_acknowledge_mode(std::string_view) {
  ok();
  output_.stop_acknowledging();
}

void GdbSession::attached(std::string_view) {
  output_.send("1");
}

void GdbSession::read_features(std::string_view arguments) {
  if (cut(arguments, ':') != "target.xml") return error(0);
  const auto range = parse_range(arguments);
  if (!range) return error(kInvalid);
  output_.send(document_piece(layout_.description(), range->first, range->second));
}

void GdbSession::monitor(std::string_view arguments) {
  const auto command = bytes_from_hex(arguments);
  if (!command) return error(kInvalid);
  const std::string text(reinterpret_cast<const char*>(command->data()), command->size());
  const MonitorReply reply = run_monitor_command(target_, general_vcpu_, text);
  output_.send(reply.text.empty() ? "OK" : to_hex(reply.text));
  if (reply.kills) kill({});
}

// --- Threads ---

/// False when it is no number of a thread; 0 and -1 are any and all: no vCPU in particular.
bool GdbSession::parse_thread(std::string_view text, std::optional<unsigned>& vcpu) const {
  vcpu.reset();
  if (text == "-1" || text == "0") return true;
  const auto number = number_from_hex(text);
  if (!number || *number == 0 || *number > target_.vcpu_count()) return false;
  vcpu = static_cast<unsigned>(*number - 1);
  return true;
}

void GdbSession::select_thread(std::string_view arguments) {
  if (arguments.empty()) return error(kInvalid);
  const bool general = arguments[0] == 'g';
  std::optional<unsigned> vcpu;
  if (!parse_thread(arguments.substr(1), vcpu)) return error(kInvalid);
  // Hc belongs to the c and s packets, which GDB does not use where it has vCont.
  if (general && vcpu) general_vcpu_ = *vcpu;
  ok();
}

void GdbSession::thread_alive(std::string_view arguments) {
  std::optional<unsigned> vcpu;
  if (!parse_thread(arguments, vcpu) || !vcpu) return error(kInvalid);
  ok();
}

void GdbSession::current_thread(std::string_view) {
  output_.send("QC" + to_hex(std::uint64_t{general_vcpu_} + 1));
}

void GdbSession::first_threads(std::string_view) {
  std::string list;
  for (unsigned i = 1; i <= target_.vcpu_count(); ++i) list += (i == 1 ? "m" : ",") + to_hex(std::uint64_t{i});
  output_.send(list);
}

void GdbSession::more_threads(std::string_view) {
  output_.send("l");
}

void GdbSession::thread_information(std::string_view arguments) {
  std::optional<unsigned> vcpu;
  if (!parse_thread(arguments, vcpu) || !vcpu) return error(kInvalid);
  output_.send(to_hex(describe_vcpu(target_, *vcpu)));
}

// --- Registers ---

void GdbSession::read_registers(std::string_view) {
  output_.send(to_hex(layout_.read_all(target_.registers(general_vcpu_))));
}

void GdbSession::write_registers(std::string_view arguments) {
  const auto bytes = bytes_from_hex(arguments);
  if (!bytes) return error(kInvalid);
  x86::CpuState state = target_.registers(general_vcpu_);
  if (!layout_.write_all(state, *bytes)) return error(kInvalid);
  target_.set_registers(general_vcpu_, state);
  ok();
}

void GdbSession::read_register(std::string_view arguments) {
  const auto number = number_from_hex(arguments);
  if (!number || *number >= layout_.size()) return error(kInvalid);
  output_.send(to_hex(layout_.read(target_.registers(general_vcpu_), *number)));
}

void GdbSession::write_register(std::string_view arguments) {
  const auto number = number_from_hex(cut(arguments, '='));
  const auto bytes = bytes_from_hex(arguments);
  if (!number || *number >= layout_.size() || !bytes) return error(kInvalid);
  x86::CpuState state = target_.registers(general_vcpu_);
  if (!layout_.write(state, *number, *bytes)) return error(kNotPermitted);
  target_.set_registers(general_vcpu_, state);
  ok();
}

// --- Memory ---

void GdbSession::read_memory(std::string_view arguments) {
  const auto range = parse_range(arguments);
  if (!range) return error(kInvalid);
  const auto& [address, length] = *range;
  std::vector<std::byte> bytes(std::min(length, kMaxMemory));
  if (target_.read_memory(general_vcpu_, address, bytes)) return output_.send(to_hex(bytes));
  // What can be read before the first hole is a valid reply.
  std::size_t readable = 0;
  while (readable < bytes.size()) {
    const std::uint64_t here = address + readable;
    const std::size_t in_page = std::min<std::size_t>(bytes.size() - readable, 4096 - here % 4096);
    if (!target_.read_memory(general_vcpu_, here, std::span{bytes}.subspan(readable, in_page))) break;
    readable += in_page;
  }
  if (readable == 0) return error(kBadAddress);
  output_.send(to_hex(std::span{bytes}.first(readable)));
}

void GdbSession::write_memory(std::string_view arguments) {
  const auto range = parse_range(cut(arguments, ':'));
  const auto bytes = bytes_from_hex(arguments);
  if (!range || !bytes || bytes->size() != range->second) return error(kInvalid);
  if (!target_.write_memory(general_vcpu_, range->first, *bytes)) return error(kBadAddress);
  ok();
}

void GdbSession::write_memory_binary(std::string_view arguments) {
  const auto range = parse_range(cut(arguments, ':'));
  if (!range || arguments.size() != range->second) return error(kInvalid);
  // GDB asks whether this packet is understood by writing nothing.
  if (!arguments.empty()) {
    const auto bytes = std::as_bytes(std::span{arguments.data(), arguments.size()});
    if (!target_.write_memory(general_vcpu_, range->first, bytes)) return error(kBadAddress);
  }
  ok();
}

// --- Break- and watchpoints ---

void GdbSession::set_point(std::string_view arguments, bool insert) {
  const auto kind = number_from_hex(cut(arguments, ','));
  const auto range = parse_range(cut(arguments, ';'));
  if (!kind || !range) return error(kInvalid);
  if (*kind > static_cast<unsigned>(StopPoint::Kind::AccessWatch)) return output_.send("");
  StopPoint point{static_cast<StopPoint::Kind>(*kind), range->first, range->second};
  // A breakpoint's "length" is a kind of instruction: ours have no kinds.
  if (point.is_breakpoint()) point.length = 1;
  if (!insert)
    points_.remove(point);
  else if (!points_.insert(point))
    return error(kNoSpace);
  ok();
}

void GdbSession::insert_point(std::string_view arguments) {
  set_point(arguments, true);
}

void GdbSession::remove_point(std::string_view arguments) {
  set_point(arguments, false);
}

}  // namespace doppel::debug
