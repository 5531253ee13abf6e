"""Files as torch.save writes them, put together by hand: the tests need no torch."""

import base64
import io
import pickle
import struct
import zipfile
import zlib

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

# Golden: `torch.save({"epoch": 3, "state_dict": sd}, path)` with torch 2.13.0, 2026-11-23, where
# sd is an OrderedDict (with _metadata) of a = torch.arange(6.).reshape(2, 3).t(),
# b = torch.tensor([1, -2]), c = torch.tensor([0.5, 3.0], dtype=torch.bfloat16).
GOLDEN_ZIP = (
    "c-o~^TTjza96#&Wg{s^{2PohLbtW)&DWhl<(wO>C6UU5XF)_7tb!#ju|Mm={$r2I+(Kr19#Bbqu;7wzEFuwVqzUYe&"
    "KB?!lW3(k3A}2dL*?NALbN-hWq;MBP@i^Ku`p^JUEVZhyY13r|E2-5-hA8x)d%m&GGyo+_5dzRwO|=RkDO_U7FB>aZ"
    "lgqk_fl*b{Ff<kGX3b`ATV>7C$~VXp7Q&Z{(3LEO2ta{|icKPzlIvJEY*x0k<+^T^Wvta~(~{S+EJTyZQp{mDEv2GC"
    "%!RO`VJi5J`zH%=hcFG@r7&65)jF_J6vL542}xmz*@UAKvAGGyUR0@p9t^!j=yO2J&|f7Y)g9tnX06iV9dNc};CPjl"
    "7z~4ykJ*3|QfLECx?BkiLq!;NHmWe<;}RT~nS6`yl(Q`hr(M3$Cf^w48+ZB6U^rWZbM*$CFLjg6@`{EP8V;Cfz=aYG"
    "6kKe;CFfSwG|MJ;3`r?u+xBujRghxw?ZKs=TSSM>LfdF3&}b{#sfVVuqF}j6Ckn%XpnFD!O1$~;=@~r<o$Vz?(Cn^6"
    "Gk~&U=#|=vR>Pu@Yp>FN<T+|!{xN)Ghy>HoKtGyq8CZUTHIrtdC|vy?-JN0R7#kY(uyO74aFnP-J9_9r*L_trofd^F"
    "hcMu>uFsRN1@a+toy^w@)KTK)msdmN!O%XACjE{wqLBP&N1-Om??3LKy3-%WxBHw9(pi`D>t;nEec+ow^9#;dC+rW;"
    "i4f}QsM+hufL3-ND*ic^s=wW;+}%I_#!z;*0GuP+nx&Hpc&gCWDC=cWNFC5jn&;*?p69vQx%^C;<7aa-=}b14&+vSX"
    "OLO_zbe`k098X=|SEnjT;v?y}3{kT!pWZIfx5s(#JrG2D8$iN`{2oH>`bv<*Tf`$il0^n}=o~>FZz1;kc;0z<S`8ow"
    "_f}1h555#ef!YmXy_xUFehp$XL991}{n!Ux0c<vi_2yr%5BuJOZFBG5v>5Y&ixIR>!WN`xbaE%X!&5C}cVNBAxa+To"
    "yAoW?iFwn5`{sy5T}-#L-`)Ec`|9ba"
)
# The same with _use_new_zipfile_serialization=False.
GOLDEN_LEGACY = (
    "c-n1}OK;Oa5XbFx9@NlM-jru)d4x-(G^vxE8X?rn@(h=~Aj`2=wUO~=yyHqBS<0mq@EJI8<g4)!kPtAolk!kj-nBeC"
    "^ZWm2*E9CXj(>dK|GxR=>x+%{j6MBk(VBzN66=OxOjCu*SFw92Qyr-UOiB=|v=c{&v2<k;L|y{ygRm)x@21k#(R-=E"
    "%AwX0bqeZGr3iJ-ghgLbg3#bKQ7afKIe;dwW!XZr$d^;)hhTE6L~8U<x<TY4FrS>n(nm6)?dNGAQyDy_9UH8N<3i4)"
    "0uSmws?-nLZiZ2;Z8w#ZEQ$jcWujH;9`4xCXthMMq^s0BkkG73?EP4I_^Jxpa7wIE&amh7`aP#R*xlV3I<Qi<;ZHNL"
    "dE*(v>6hH#7H7wBhLh=ISp66lcGeKij$ys@G=Xy=NrnrVC)D_f%K1Mk-G0B<890LhTnKH>h<>r4vm>~~%_F#6k*^?J"
    "9m7UR_Tkz;<VR%(9p{98{XhD!({<p+oPKjozg5t0SM*JUJ7d_&a@ZCtRO-H!=mj2na5sm0f+7ao&*4FNev99t#Z9gC"
    "q`1e|#XT<R$XsTGEjwXLwwX~4bN>GMs~U^Au{RnujK9ZhkCqWVG-ouwjD7=<^uJa"
)


def golden(text):
    return zlib.decompress(base64.b85decode(text))


# --- an assembler for the instructions of a pickle ---------------------------------------


def plain(value):
    """Text, numbers, None and tuples of bytes made here."""
    if isinstance(value, tuple):
        return b"(" + b"".join(plain(item) for item in value) + b"t"
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bool) or value is None:
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    return b"\x8a" + bytes([8]) + struct.pack("<q", value)


def name(text):
    module, _, function = text.rpartition(".")
    return f"c{module}\n{function}\n".encode()


def call(function, *arguments):
    return name(function) + plain(arguments) + b"R"


def dictionary(entries):
    return b"}(" + b"".join(plain(key) + plain(value) for key, value in entries.items()) + b"u"


def ordered(entries):
    return call("collections.OrderedDict") + dictionary(entries)[1:]


def storage(kind, key, count, *more):
    return plain(("storage", name(f"torch.{kind}Storage"), key, "cpu", count, *more)) + b"Q"


def tensor(stored, shape, strides, offset=0):
    hooks = call("collections.OrderedDict")
    arguments = (stored, offset, shape, strides, False, hooks)
    return call("torch._utils._rebuild_tensor_v2", *arguments)


def pickled(body):
    return b"\x80\x02" + body + b"."


# --- the two containers ------------------------------------------------------------------


def zip_file(path, body, storages, *, extra=(), compression=zipfile.ZIP_STORED, folder="archive"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled(body))
        for key, raw in storages.items():
            archive.writestr(f"{folder}/data/{key}", raw)
        for key, raw in extra:
            archive.writestr(f"{folder}/{key}", raw)
    return path


def legacy_file(path, body, storages, *, magic=MAGIC, protocol=PROTOCOL):
    """`storages` maps keys to (count, bytes)."""
    stream = io.BytesIO()
    system = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {}}
    for value in (magic, protocol, system):
        stream.write(pickle.dumps(value, 2))
    stream.write(pickled(body))
    stream.write(pickle.dumps(list(storages), 2))
    for count, raw in storages.values():
        stream.write(struct.pack("<q", count) + raw)
    path.write_bytes(stream.getvalue())
    return path
