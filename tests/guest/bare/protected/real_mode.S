// From protected mode to real mode, for one exception or interrupt, and back. The part for real mode is copied to
// REAL_MONITOR * 16; its data is struct Real (real_mode.h).
        .set    REAL_MONITOR, 0x6000
        .set    MONITOR_CODE, 0x1F8     // the GDT's last: 16-bit code, based there

        .section .text
        .code32
        .globl  go_to_real_mode         // (): with struct Real as it says, until the next vector
go_to_real_mode:
        pushal
        pushfl
        mov     %cr0, %eax
        push    %eax
        mov     %esp, stack_before
        ljmp    $MONITOR_CODE, $leave_protected_mode - real_monitor

back_in_protected_mode:
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     stack_before, %esp
        lidt    protected_idt
        pop     %eax
        mov     %eax, %cr0
        popfl
        popal
        ret

        .section .data
        .globl  real_monitor, real_monitor_end, real_vectors, real_registers
        .code16
        .balign 16
real_monitor:
real_vectors:
        .set    vector, 0
        .rept   256
        .balign 16
        movb    $vector, %cs:at_vector - real_monitor
        jmp     save
        .set    vector, vector + 1
        .endr

save:   .irp    register, eax, ecx, edx, ebx, esp, ebp, esi, edi
        mov     %\register, %cs:at_\register - real_monitor
        .endr
        .irp    register, ds, es, fs, gs, ss
        mov     %\register, %ax
        mov     %ax, %cs:at_\register - real_monitor
        .endr
        mov     %cs, %ax
        mov     %ax, %ss
        mov     $monitor_stack - real_monitor, %sp
        pushf
        pop     %ax
        mov     %ax, %cs:at_flags - real_monitor
        lgdtl   %cs:protected_gdt - real_monitor
        mov     %cr0, %eax
        mov     %eax, %cs:at_cr0 - real_monitor
        or      $1, %al
        mov     %eax, %cr0
        ljmpl   $8, $back_in_protected_mode

leave_protected_mode:
        lidtl   %cs:at_idt - real_monitor
        .irp    register, ds, es, fs, gs, ss
        mov     %cs:descriptor_of_\register - real_monitor, %ax
        mov     %ax, %\register
        .endr
        mov     %cr0, %eax
        and     $0xFE, %al
        mov     %eax, %cr0
        ljmp    $REAL_MONITOR, $in_real_mode - real_monitor
in_real_mode:
        mov     %cs, %ax
        mov     %ax, %ss
        mov     $monitor_stack - real_monitor, %sp
        pushw   %cs:at_flags - real_monitor
        popf
        .irp    register, es, fs, gs, ss
        mov     %cs:at_\register - real_monitor, %\register
        .endr
        .irp    register, eax, ecx, edx, ebx, esp, ebp, esi, edi
        mov     %cs:at_\register - real_monitor, %\register
        .endr
        mov     %cs:at_ds - real_monitor, %ds
        ljmp    *%cs:at_code - real_monitor

protected_gdt:
        .word   511
        .long   gdt
        .balign 16
real_registers:
        .irp    register, eax, ecx, edx, ebx, esp, ebp, esi, edi
at_\register:
        .long   0
        .endr
        .irp    register, ds, es, fs, gs, ss
at_\register:
        .word   0
        .endr
at_flags:
        .word   0
at_code:
        .word   0, 0
        .irp    register, ds, es, fs, gs, ss
descriptor_of_\register:
        .word   0
        .endr
at_idt: .word   0
        .long   0
at_vector:
        .long   0
at_cr0: .long   0
        .skip   64
monitor_stack:
real_monitor_end:

        .code32
        .balign 4
stack_before:
        .long   0
        .globl  protected_idt
protected_idt:
        .word   0
        .long   0

        .section .note.GNU-stack, "", @progbits
