#include "devices/i8042.h"

#include <array>
#include <mutex>

namespace doppel::devices {
namespace {

enum Command : std::uint8_t {
  kReadCommandByte = 0x20,
  kWriteCommandByte = 0x60,
  kDisableAux = 0xA7,
  kEnableAux = 0xA8,
  kTestAux = 0xA9,
  kSelfTest = 0xAA,
  kTestKeyboard = 0xAB,
  kDisableKeyboard = 0xAD,
  kEnableKeyboard = 0xAE,
  kReadInputPort = 0xC0,
  kReadOutputPort = 0xD0,
  kWriteOutputPort = 0xD1,
  kWriteKeyboardBuffer = 0xD2,
  kWriteAuxBuffer = 0xD3,
  kWriteAux = 0xD4,
  kDisableA20 = 0xDD,
  kEnableA20 = 0xDF,
  kPulseOutputPort = 0xF0,  // to FFh
};

constexpr std::uint8_t kStatusOutputFull = 0x01, kStatusSystem = 0x04, kStatusCommand = 0x08, kStatusUnlocked = 0x10;
constexpr std::uint8_t kByteKeyboardInterrupt = 0x01, kByteSystem = 0x04, kByteKeyboardDisabled = 0x10,
                       kByteAuxDisabled = 0x20, kByteTranslate = 0x40;
constexpr std::uint8_t kOutputNotReset = 0x01, kOutputA20 = 0x02, kOutputKeyboardFull = 0x10;
constexpr std::uint8_t kInputPortUnlocked = 0x80;
constexpr std::uint8_t kSelfTestPassed = 0x55, kPortTestPassed = 0x00, kPortTestClockStuckLow = 0x01;
constexpr std::uint8_t kNoDevice = 0xFE;
constexpr std::uint8_t kBreakPrefix = 0xF0;

/// As firmware leaves it: interrupt and translation on, the auxiliary port off.
constexpr std::uint8_t kInitialCommandByte = kByteKeyboardInterrupt | kByteSystem | kByteAuxDisabled | kByteTranslate;

/// Scan code set 2 to set 1 for codes below 80h, the controller's built-in table.
constexpr std::array<std::uint8_t, 128> kSet2ToSet1 = {
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59,  // 00
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B,  // 10
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D,  // 20
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F,  // 30
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61,  // 40
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76,  // 50
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F,  // 60
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54,  // 70
};

}  // namespace

I8042::I8042() {
  reset(bus::ResetKind::Cold);
}

void I8042::reset(bus::ResetKind) {
  keyboard_.reset();
  replies_.clear();
  command_byte_ = kInitialCommandByte;
  output_port_ = kOutputNotReset | kOutputA20;
  output_buffer_ = 0;
  output_full_ = false;
  last_was_command_ = false;
  break_prefix_ = false;
  awaiting_argument_of_ = 0;
  irq1_.lower();
}

void I8042::describe(state::Visitor& v) {
  v.field(1, "keyboard", keyboard_);
  v.field(2, "replies", replies_);
  v.field(3, "command_byte", command_byte_);
  v.field(4, "output_port", output_port_);
  v.field(5, "output_buffer", output_buffer_);
  v.field(6, "output_full", output_full_);
  v.field(7, "last_was_command", last_was_command_);
  v.field(8, "break_prefix", break_prefix_);
  v.field(9, "awaiting_argument_of", awaiting_argument_of_);
  v.on_loaded([this] {
    if (on_a20_) on_a20_((output_port_ & kOutputA20) != 0);
    update();
  });
}

bool I8042::translate(std::uint8_t& value) {
  if ((command_byte_ & kByteTranslate) == 0) return true;
  if (value == kBreakPrefix) {
    break_prefix_ = true;
    return false;
  }
  if (value < kSet2ToSet1.size()) {
    value = kSet2ToSet1[value];
  } else if (value == 0x83) {  // F7
    value = 0x41;
  } else if (value == 0x84) {  // SysRq
    value = 0x54;
  }
  if (break_prefix_) value |= 0x80;
  break_prefix_ = false;
  return true;
}

void I8042::update() {
  if (!output_full_ && !replies_.empty()) {
    output_buffer_ = replies_.pop();
    output_full_ = true;
  }
  while (!output_full_ && (command_byte_ & kByteKeyboardDisabled) == 0 && keyboard_.has_output()) {
    output_buffer_ = keyboard_.take_output();
    output_full_ = translate(output_buffer_);
  }
  irq1_.set(output_full_ && (command_byte_ & kByteKeyboardInterrupt) != 0);
}

void I8042::reply(std::uint8_t value) {
  replies_.push(value);
}

bool I8042::send_ctrl_alt_del() {
  constexpr std::uint8_t kCtrl = 0x14, kAlt = 0x11, kExtended = 0xE0, kDelete = 0x71;
  const std::lock_guard guard(lock());
  const bool sent = keyboard_.send(
      {kCtrl, kAlt, kExtended, kDelete, kExtended, kBreakPrefix, kDelete, kBreakPrefix, kAlt, kBreakPrefix, kCtrl});
  update();
  return sent;
}

std::uint8_t I8042::read_data(std::uint64_t) {
  const std::uint8_t value = output_buffer_;  // an empty buffer still shows its last byte
  if (output_full_) {
    output_full_ = false;
    irq1_.lower();  // and up again when there is more: one edge a byte
    update();
  }
  return value;
}

void I8042::write_data(std::uint64_t, std::uint8_t value) {
  last_was_command_ = false;
  if (const std::uint8_t command = awaiting_argument_of_; command != 0) {
    awaiting_argument_of_ = 0;
    write_command_argument(command, value);
  } else {
    command_byte_ &= static_cast<std::uint8_t>(~kByteKeyboardDisabled);  // talking to it switches it on
    keyboard_.write(value);
  }
  update();
}

std::uint8_t I8042::read_status(std::uint64_t) {
  std::uint8_t status = kStatusUnlocked;
  if (output_full_) status |= kStatusOutputFull;
  if ((command_byte_ & kByteSystem) != 0) status |= kStatusSystem;
  if (last_was_command_) status |= kStatusCommand;
  return status;
}

void I8042::write_output_port(std::uint8_t value) {
  output_port_ = value & (kOutputNotReset | kOutputA20);
  if (on_a20_) on_a20_((value & kOutputA20) != 0);
  if ((value & kOutputNotReset) == 0 && on_reset_) on_reset_();
}

void I8042::write_command_argument(std::uint8_t command, std::uint8_t value) {
  switch (command) {
    case kWriteCommandByte:
      command_byte_ = value;
      break;
    case kWriteOutputPort:
      write_output_port(value);
      break;
    case kWriteKeyboardBuffer:
      reply(value);
      break;
    default:
      // The auxiliary port has nothing on it that would answer or loop back. Something must, or the guest waits: a byte
      // that does not claim to be the auxiliary device's.
      reply(kNoDevice);
  }
}

void I8042::write_command(std::uint64_t, std::uint8_t value) {
  last_was_command_ = true;
  awaiting_argument_of_ = 0;
  if (value >= kPulseOutputPort) {
    if ((value & kOutputNotReset) == 0 && on_reset_) on_reset_();  // a 0 pulses its line low
    return;
  }
  switch (value) {
    case kReadCommandByte:
      reply(command_byte_);
      break;
    case kWriteCommandByte:
    case kWriteOutputPort:
    case kWriteKeyboardBuffer:
    case kWriteAuxBuffer:
    case kWriteAux:
      awaiting_argument_of_ = value;
      break;
    case kDisableAux:
      command_byte_ |= kByteAuxDisabled;
      break;
    case kEnableAux:
      command_byte_ &= static_cast<std::uint8_t>(~kByteAuxDisabled);
      break;
    case kTestAux:
      reply(kPortTestClockStuckLow);
      break;
    case kSelfTest:
      command_byte_ |= kByteSystem;
      reply(kSelfTestPassed);
      break;
    case kTestKeyboard:
      reply(kPortTestPassed);
      break;
    case kDisableKeyboard:
      command_byte_ |= kByteKeyboardDisabled;
      break;
    case kEnableKeyboard:
      command_byte_ &= static_cast<std::uint8_t>(~kByteKeyboardDisabled);
      break;
    case kReadInputPort:
      reply(kInputPortUnlocked);
      break;
    case kReadOutputPort:
      reply(output_port_ | (output_full_ ? kOutputKeyboardFull : 0));
      break;
    case kDisableA20:
    case kEnableA20:
      write_output_port(static_cast<std::uint8_t>(kOutputNotReset | (value == kEnableA20 ? kOutputA20 : 0)));
      break;
    default:
      break;
  }
  update();
}

}  // namespace doppel::devices
