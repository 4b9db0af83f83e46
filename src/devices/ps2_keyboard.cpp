#include "devices/ps2_keyboard.h"

namespace doppel::devices {
namespace {

enum Command : std::uint8_t {
  kSetLeds = 0xED,
  kEcho = 0xEE,
  kScanCodeSet = 0xF0,
  kIdentify = 0xF2,
  kSetTypematic = 0xF3,
  kEnable = 0xF4,
  kDisable = 0xF5,
  kSetDefaults = 0xF6,
  kReset = 0xFF,
};
constexpr std::uint8_t kAcknowledge = 0xFA, kResend = 0xFE, kSelfTestPassed = 0xAA;
constexpr std::uint8_t kIdLow = 0xAB, kIdHigh = 0x83;
constexpr std::uint8_t kOnlyScanCodeSet = 2;

}  // namespace

void Ps2Keyboard::reset() {
  *this = Ps2Keyboard();
}

void Ps2Keyboard::describe(state::Visitor& v) {
  v.field(1, "output", output_);
  v.field(2, "awaiting_argument_of", awaiting_argument_of_);
  v.field(3, "leds", leds_);
  v.field(4, "typematic", typematic_);
  v.field(5, "scanning", scanning_);
}

void Ps2Keyboard::set_defaults() {
  leds_ = 0;
  typematic_ = 0x2B;
}

void Ps2Keyboard::answer(std::initializer_list<std::uint8_t> bytes) {
  for (const std::uint8_t byte : bytes) output_.push(byte);
}

bool Ps2Keyboard::send(std::initializer_list<std::uint8_t> codes) {
  if (!scanning_ || output_.size() + codes.size() > kBuffer) return false;
  answer(codes);
  return true;
}

void Ps2Keyboard::write_argument(std::uint8_t command, std::uint8_t value) {
  switch (command) {
    case kSetLeds:
      leds_ = value & 7;
      answer({kAcknowledge});
      break;
    case kSetTypematic:
      typematic_ = value & 0x7F;
      answer({kAcknowledge});
      break;
    default:  // scan code set: 0 asks for it
      if (value == 0) {
        answer({kAcknowledge, kOnlyScanCodeSet});
      } else {
        answer({value == kOnlyScanCodeSet ? kAcknowledge : kResend});
      }
  }
}

void Ps2Keyboard::write(std::uint8_t value) {
  if (const std::uint8_t command = awaiting_argument_of_; command != 0) {
    awaiting_argument_of_ = 0;
    // A command in place of the argument abandons the old one; arguments are below the commands.
    if (value < kSetLeds) {
      write_argument(command, value);
      return;
    }
  }
  switch (value) {
    case kSetLeds:
    case kScanCodeSet:
    case kSetTypematic:
      awaiting_argument_of_ = value;
      answer({kAcknowledge});
      break;
    case kEcho:
      answer({kEcho});
      break;
    case kIdentify:
      answer({kAcknowledge, kIdLow, kIdHigh});
      break;
    case kEnable:
      output_.clear();
      scanning_ = true;
      answer({kAcknowledge});
      break;
    case kDisable:
      output_.clear();
      set_defaults();
      scanning_ = false;
      answer({kAcknowledge});
      break;
    case kSetDefaults:
      output_.clear();
      set_defaults();
      answer({kAcknowledge});
      break;
    case kReset:
      reset();
      answer({kAcknowledge, kSelfTestPassed});
      break;
    default:
      answer({kResend});
  }
}

}  // namespace doppel::devices
