# SPDX-License-Identifier: MIT
"""Names of what processors can do (public/arch-x86/cpufeatureset.h), and where CPUID and MSRs say it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Register(NamedTuple):
    """One of the registers a, b, c, d that a leaf of CPUID returns; the subleaf of one without is None."""

    leaf: int
    subleaf: int | None
    name: str


class Bit(NamedTuple):
    """Where a feature is said: a bit of a register of CPUID, or of an MSR, whose number is `place` then."""

    place: Register | int
    bit: int


def _bits(names: str) -> dict[str, int]:
    """Bits by name, from "fpu=0 vme=1"."""
    pairs = (pair.split("=") for pair in names.split())
    return {name: int(bit) for name, bit in pairs}


_CPUID = {
    Register(0x1, None, "d"): _bits(
        "fpu=0 vme=1 de=2 pse=3 tsc=4 msr=5 pae=6 mce=7 cx8=8 apic=9 sep=11 mtrr=12 pge=13 mca=14 "
        "cmov=15 pat=16 pse36=17 clflush=19 ds=21 acpi=22 mmx=23 fxsr=24 sse=25 sse2=26 ss=27 htt=28 "
        "tm1=29 pbe=31"
    ),
    Register(0x1, None, "c"): _bits(
        "sse3=0 pclmulqdq=1 dtes64=2 monitor=3 dscpl=4 vmx=5 smx=6 eist=7 tm2=8 ssse3=9 sdbg=11 "
        "fma=12 cx16=13 xtpr=14 pdcm=15 pcid=17 dca=18 sse4_1=19 sse4_2=20 x2apic=21 movbe=22 "
        "popcnt=23 tsc_deadline=24 aesni=25 xsave=26 osxsave=27 avx=28 f16c=29 rdrand=30 "
        "hypervisor=31"
    ),
    Register(0x80000001, None, "d"): _bits(
        "syscall=11 nx=20 mmxext=22 ffxsr=25 page1gb=26 rdtscp=27 lm=29 3dnowext=30 3dnow=31"
    ),
    Register(0x80000001, None, "c"): _bits(
        "lahf_lm=0 cmp_legacy=1 svm=2 extapic=3 cr8_legacy=4 abm=5 sse4a=6 misalignsse=7 "
        "3dnowprefetch=8 osvw=9 ibs=10 xop=11 skinit=12 wdt=13 lwp=15 fma4=16 nodeid_msr=19 tbm=21 "
        "topoext=22 dbext=26 monitorx=29 addr_msk_ext=30"
    ),
    Register(0xD, 1, "a"): _bits("xsaveopt=0 xsavec=1 xgetbv1=2 xsaves=3 xfd=4"),
    Register(0x7, 0, "b"): _bits(
        "fsgsbase=0 tsc_adjust=1 sgx=2 bmi1=3 hle=4 avx2=5 fdp_excp_only=6 smep=7 bmi2=8 erms=9 "
        "invpcid=10 rtm=11 pqm=12 no_fpu_sel=13 mpx=14 pqe=15 avx512f=16 avx512dq=17 rdseed=18 adx=19 "
        "smap=20 avx512_ifma=21 clflushopt=23 clwb=24 proc_trace=25 avx512pf=26 avx512er=27 "
        "avx512cd=28 sha=29 avx512bw=30 avx512vl=31"
    ),
    Register(0x7, 0, "c"): _bits(
        "prefetchwt1=0 avx512_vbmi=1 umip=2 pku=3 ospke=4 waitpkg=5 avx512_vbmi2=6 cet_ss=7 gfni=8 "
        "vaes=9 vpclmulqdq=10 avx512_vnni=11 avx512_bitalg=12 tme=13 avx512_vpopcntdq=14 la57=16 "
        "rdpid=22 bld=24 cldemote=25 movdiri=27 movdir64b=28 enqcmd=29 sgx_lc=30 pks=31"
    ),
    Register(0x80000007, None, "d"): _bits("hw_pstate=7 itsc=8 cpb=9 efro=10"),
    Register(0x80000008, None, "b"): _bits(
        "clzero=0 rstr_fp_err_ptrs=2 wbnoinvd=9 ibpb=12 ibrs=14 amd_stibp=15 ibrs_always=16 "
        "stibp_always=17 ibrs_fast=18 ibrs_same_mode=19 no_lmsl=20 amd_ppin=23 amd_ssbd=24 "
        "virt_ssbd=25 ssb_no=26 cppc=27 psfd=28 btc_no=29 ibpb_ret=30"
    ),
    Register(0x7, 0, "d"): _bits(
        "sgx_keys=1 avx512_4vnniw=2 avx512_4fmaps=3 fsrm=4 uintr=5 avx512_vp2intersect=8 srbds_ctrl=9 "
        "md_clear=10 rtm_always_abort=11 tsx_force_abort=13 serialize=14 hybrid=15 tsxldtrk=16 "
        "pconfig=18 arch_lbr=19 cet_ibt=20 amx_bf16=22 avx512_fp16=23 amx_tile=24 amx_int8=25 "
        "ibrsb=26 stibp=27 l1d_flush=28 arch_caps=29 core_caps=30 ssbd=31"
    ),
    Register(0x7, 1, "a"): _bits(
        "sha512=0 sm3=1 sm4=2 avx_vnni=4 avx512_bf16=5 lass=6 cmpccxadd=7 arch_perf_mon=8 fzrm=10 "
        "fsrs=11 fsrcs=12 fred=17 lkgs=18 wrmsrns=19 nmi_src=20 amx_fp16=21 avx_ifma=23 lam=26 "
        "msrlist=27 no_invd=30 movrs=31"
    ),
    Register(0x80000021, None, "a"): _bits(
        "no_nest_bp=0 fs_gs_ns=1 lfence_dispatch=2 verw_clear=5 nscb=6 auto_ibrs=8 amd_fsrs=10 "
        "amd_fsrc=11 cpuid_user_dis=17 epsf=18 fsrsc=19 amd_prefetchi=20 avx512_bmm=23 sbpb=27 "
        "ibpb_brtype=28 srso_no=29 srso_us_no=30 srso_msr_fix=31"
    ),
    Register(0x7, 1, "b"): _bits("intel_ppin=0"),
    Register(0x7, 2, "d"): _bits(
        "intel_psfd=0 ipred_ctrl=1 rrsba_ctrl=2 ddp_ctrl=3 bhi_ctrl=4 mcdt_no=5 uc_lock_dis=6"
    ),
    Register(0x7, 1, "d"): _bits(
        "avx_vnni_int8=4 avx_ne_convert=5 amx_complex=8 avx_vnni_int16=10 prefetchi=14 uiret_uif=17 "
        "cet_sss=18 slsm=24"
    ),
    Register(0x80000021, None, "c"): _bits("tsa_sq_no=1 tsa_l1_no=2"),
}

_ARCH_CAPS = 0x10A
_MSR = {
    _ARCH_CAPS: _bits(
        "rdcl_no=0 eibrs=1 rsba=2 skip_l1dfl=3 intel_ssb_no=4 mds_no=5 if_pschange_mc_no=6 tsx_ctrl=7 "
        "taa_no=8 mcu_ctrl=9 misc_pkg_ctrl=10 energy_filtering=11 doitm=12 sbdr_ssdp_no=13 "
        "fbsdp_no=14 psdp_no=15 mcu_ext=16 fb_clear=17 fb_clear_ctrl=18 rrsba=19 bhi_no=20 "
        "xapic_status=21 ovrclk_status=23 pbrsb_no=24 gds_ctrl=25 gds_no=26 rfds_no=27 rfds_clear=28 "
        "ign_umonitor=29 mon_umon_mitg=30 pb_opt_ctrl=32 its_no=62"
    ),
}

CPU_FEATURES: Final = {
    name: Bit(place, bit)
    for places in (_CPUID, _MSR)
    for place, names in places.items()
    for name, bit in names.items()
}
"""Features by Xen's names, in lower case."""
